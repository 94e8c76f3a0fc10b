-- name: list
SELECT {function} FROM functions WHERE environment = ? ORDER BY active DESC, name;

-- name: get
SELECT {function} FROM functions WHERE environment = ? AND name = ? AND active = 1;

-- name: by_id
SELECT {function} FROM functions WHERE id = ?;

-- name: spec
SELECT spec FROM functions WHERE id = ?;

-- name: known
SELECT name, id, spec, options, active, next_cron_at FROM functions WHERE environment = ?;

-- name: insert
INSERT INTO functions (id, environment, name, spec, options, active, next_cron_at)
VALUES (:id, :environment, :name, :spec, :options, 1, :next_cron_at);

-- name: update
UPDATE functions SET spec = :spec, options = :options, active = 1, next_cron_at = :next_cron_at WHERE id = :id;

-- name: deactivate
UPDATE functions SET active = 0, next_cron_at = NULL WHERE id = ?;

-- name: stop_cron
UPDATE functions SET next_cron_at = NULL WHERE environment = ? AND next_cron_at IS NOT NULL;
