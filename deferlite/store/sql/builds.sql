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
SELECT state, config, live_build_id FROM environments WHERE name = ?;

-- name: newest_number
SELECT coalesce(max(number), 0) FROM builds WHERE environment = ?;

-- name: not_started
SELECT id FROM builds WHERE environment = ? AND finished_at IS NULL AND state = 'created' ORDER BY number;

-- name: insert
INSERT INTO builds (id, environment, number, state, build_trigger, "commit", branch, message, config, created_at)
VALUES (:id, :environment, :number, 'created', :trigger, :commit, :branch, :message, :config, :now);

-- name: next_created
SELECT {build} FROM builds
WHERE finished_at IS NULL AND state = 'created'
  AND environment NOT IN (SELECT value FROM json_each(:exclude))
  AND environment IN (SELECT name FROM environments WHERE state = 'active')
ORDER BY builds.rowid LIMIT 1;

-- name: cut_off
SELECT id FROM builds WHERE finished_at IS NULL AND state != 'created' ORDER BY rowid;

-- name: advance
UPDATE builds SET state = :state, started_at = coalesce(started_at, :now) WHERE id = :id AND state = :from;

-- name: open_step
INSERT INTO build_steps (build_id, position, state, started_at)
SELECT :id, count(*), :state, :now FROM build_steps WHERE build_id = :id;

-- name: close_step
UPDATE build_steps SET finished_at = :now WHERE build_id = :id AND finished_at IS NULL;

-- name: fail
UPDATE builds SET state = 'failed', error = :error, finished_at = :now WHERE id = :id AND finished_at IS NULL;

-- name: succeed
UPDATE builds SET state = 'succeed', manifest = :manifest, finished_at = :now
WHERE id = :id AND state = 'publishing';

-- name: before_live
SELECT older.id FROM builds AS older JOIN builds AS live ON live.environment = older.environment
WHERE live.id = :live AND older.number < live.number AND older.state = 'succeed'
ORDER BY older.number DESC LIMIT 1;

-- name: in_use
SELECT live_build_id FROM environments WHERE name = :environment AND live_build_id IS NOT NULL
UNION
SELECT build_id FROM executions WHERE environment = :environment AND state IN ('started', 'aborting')
UNION
SELECT id FROM builds WHERE environment = :environment AND finished_at IS NULL
UNION
SELECT id FROM (
  SELECT id FROM builds WHERE environment = :environment AND state = 'succeed'
  ORDER BY number DESC
  LIMIT (SELECT coalesce(json_extract(config, '$.retention_builds'), 5) FROM environments WHERE name = :environment)
);
