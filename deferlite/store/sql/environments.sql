-- name: get
SELECT {environment} FROM environments WHERE name = ?;

-- name: list
SELECT {environment} FROM environments WHERE state = 'active' OR :include_retired ORDER BY name;

-- Those of an environment that are active, and of the retired ones those of some branches; with the newest build of
-- what they follow.
-- name: previews
SELECT {environment}, (
  SELECT json_array("commit", created_at) FROM builds
  WHERE environment = environments.name AND aside = 0 ORDER BY number DESC LIMIT 1
)
FROM environments
WHERE preview IS NOT NULL AND json_extract(preview, '$.of') = :of
  AND (state = 'active' OR json_extract(preview, '$.branch') IN (SELECT value FROM json_each(:branches)))
ORDER BY name;

-- name: active_previews
SELECT name FROM environments
WHERE preview IS NOT NULL AND json_extract(preview, '$.of') = ? AND state = 'active' ORDER BY name;

-- name: apply
INSERT INTO environments (name, state, config, error, source, preview, created_at, updated_at)
VALUES (:name, 'active', :config, NULL, :source, :preview, :now, :now)
ON CONFLICT (name) DO UPDATE
SET state = 'active', config = :config, error = NULL, source = :source, preview = :preview, updated_at = :now;

-- name: reject
INSERT INTO environments (name, state, config, error, source, created_at, updated_at)
VALUES (:name, 'active', NULL, :error, :source, :now, :now)
ON CONFLICT (name) DO UPDATE
SET state = 'active', error = :error, source = :source, preview = NULL, updated_at = :now;

-- The builds of a preview leave the disk with it: none is live any more.
-- name: retire
UPDATE environments
SET state = 'retired', error = NULL, problem = NULL, note = NULL, preview = :preview, updated_at = :now,
    live_build_id = CASE WHEN preview IS NULL THEN live_build_id END,
    pinned = CASE WHEN preview IS NULL THEN pinned ELSE 0 END
WHERE name = :name AND state = 'active';

-- name: abort_running
UPDATE executions INDEXED BY executions_environment SET state = 'aborting', updated_at = :now
WHERE environment = :name AND state = 'started'
RETURNING {execution};

-- name: unfinished_builds
SELECT id, state FROM builds WHERE environment = ? AND finished_at IS NULL ORDER BY number;

-- name: note
UPDATE environments SET note = :note, updated_at = :now WHERE name = :name AND note IS NOT :note;

-- name: report
UPDATE environments SET problem = :problem, updated_at = :now WHERE name = :name;
