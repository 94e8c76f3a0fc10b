-- name: get
SELECT {build} FROM builds WHERE id = ?;

-- name: list
SELECT {build} FROM builds ORDER BY builds.rowid DESC LIMIT ?;

-- name: list_in
SELECT {build} FROM builds
WHERE environment = :environment AND (:before IS NULL OR number < :before)
ORDER BY number DESC LIMIT :limit;

-- name: manifest
SELECT manifest FROM builds WHERE id = ? AND manifest IS NOT NULL;

-- name: config
SELECT config FROM builds WHERE id = ?;

-- name: environment
SELECT state, config, live_build_id, pinned, pinned_over FROM environments WHERE name = ?;

-- name: newest_number
SELECT coalesce(max(number), 0) FROM builds WHERE environment = ?;

-- name: newest_followed
SELECT {build} FROM builds WHERE environment = ? AND aside = 0 ORDER BY number DESC LIMIT 1;

-- name: not_started
SELECT id FROM builds
WHERE environment = :environment AND finished_at IS NULL AND state = 'created' AND aside >= :aside
ORDER BY number;

-- name: insert
INSERT INTO builds (id, environment, number, state, build_trigger, "commit", branch, message, config, created_at, aside)
VALUES (:id, :environment, :number, 'created', :trigger, :commit, :branch, :message, :config, :now, :aside);

-- name: next_created
SELECT {build} FROM builds
WHERE finished_at IS NULL AND state = 'created'
  AND environment NOT IN (SELECT value FROM json_each(:exclude))
  AND environment IN (SELECT name FROM environments WHERE state = 'active')
ORDER BY builds.rowid LIMIT 1;

-- name: cut_off
SELECT id FROM builds WHERE finished_at IS NULL AND state != 'created' ORDER BY rowid;

-- name: advance
UPDATE builds SET state = :state, started_at = coalesce(started_at, :now), builder = coalesce(:builder, builder)
WHERE id = :id AND state = :from;

-- name: describe
UPDATE builds SET message = :message WHERE id = :id AND message = '';

-- name: open_step
INSERT INTO build_steps (build_id, position, state, started_at)
SELECT :id, count(*), :state, :now FROM build_steps WHERE build_id = :id;

-- name: close_step
UPDATE build_steps SET finished_at = :now WHERE build_id = :id AND finished_at IS NULL;

-- name: fail
UPDATE builds SET state = 'failed', error = :error, finished_at = :now WHERE id = :id AND finished_at IS NULL;

-- name: succeed
UPDATE builds
SET state = 'succeed', manifest = :manifest, builder = :builder, changes = :changes, findings = :findings, held = :held,
    finished_at = :now
WHERE id = :id AND state = 'publishing';

-- name: aside
SELECT aside FROM builds WHERE id = ?;

-- name: switch
UPDATE environments SET live_build_id = :id, pinned = :pinned, pinned_over = :over, updated_at = :now
WHERE name = :environment;

-- name: went_live
UPDATE builds SET held = 0, findings = :findings WHERE id = :id;

-- name: before_live
SELECT id FROM builds
WHERE environment = :environment AND state = 'succeed' AND held = 0 AND gone = 0 AND number < (
  SELECT live.number FROM builds AS live JOIN environments ON live_build_id = live.id WHERE name = :environment
)
ORDER BY number DESC LIMIT 1;

-- name: newest_held
SELECT id FROM builds WHERE environment = :environment AND {held} ORDER BY number DESC LIMIT 1;

-- The newest of the newest followed commit that was built: its files may have been made once more.
-- name: newest_good
SELECT id FROM builds
WHERE environment = :environment AND state = 'succeed' AND held = 0 AND "commit" IS (
  SELECT "commit" FROM builds
  WHERE environment = :environment AND state = 'succeed' AND held = 0 AND aside = 0
  ORDER BY number DESC LIMIT 1
)
ORDER BY number DESC LIMIT 1;

-- name: in_use
WITH kept (most) AS (
  SELECT coalesce(json_extract(config, '$.retention_builds'), 5) FROM environments WHERE name = :environment
)
SELECT live_build_id FROM environments WHERE name = :environment AND live_build_id IS NOT NULL
UNION
SELECT build_id FROM executions WHERE environment = :environment AND state IN ('started', 'aborting')
UNION
SELECT id FROM builds WHERE environment = :environment AND finished_at IS NULL
UNION
SELECT id FROM (
  SELECT id FROM builds WHERE environment = :environment AND state = 'succeed' AND held = 0 AND gone = 0
  ORDER BY number DESC LIMIT (SELECT most FROM kept)
)
UNION
SELECT id FROM (
  SELECT id FROM builds
  WHERE environment = :environment AND state = 'succeed' AND held = 0 AND gone = 0 AND "commit" IS (
    SELECT "commit" FROM builds
    WHERE environment = :environment AND state = 'succeed' AND held = 0 AND aside = 0
    ORDER BY number DESC LIMIT 1
  )
  ORDER BY number DESC LIMIT 1
)
UNION
SELECT id FROM (
  SELECT id FROM builds WHERE environment = :environment AND {held} AND gone = 0 ORDER BY number DESC LIMIT (SELECT most FROM kept)
);

-- name: in_flight
SELECT build_id FROM executions WHERE environment = :environment AND state IN ('started', 'aborting')
UNION
SELECT id FROM builds WHERE environment = :environment AND finished_at IS NULL;

-- name: let_go
UPDATE builds SET gone = 1
WHERE environment = :environment AND state = 'succeed' AND gone = 0 AND id NOT IN (SELECT value FROM json_each(:used));
