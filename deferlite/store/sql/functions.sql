-- name: list
SELECT {function} FROM functions WHERE environment = ? ORDER BY active DESC, name;

-- name: get
SELECT {function} FROM functions WHERE environment = ? AND name = ? AND active = 1;

-- name: by_id
SELECT {function} FROM functions WHERE id = ?;

-- name: spec
SELECT spec FROM functions WHERE id = ?;

-- name: known
SELECT name, id, spec, options, active, next_cron_at, last_cron_at FROM functions WHERE environment = ?;

-- name: insert
INSERT INTO functions (id, environment, name, spec, options, active, next_cron_at, last_cron_at)
VALUES (:id, :environment, :name, :spec, :options, 1, :next_cron_at, :last_cron_at);

-- name: update
UPDATE functions
SET spec = :spec, options = :options, active = 1, removed_in = NULL, next_cron_at = :next_cron_at,
    last_cron_at = coalesce(:last_cron_at, last_cron_at)
WHERE id = :id;

-- name: deactivate
UPDATE functions
SET active = 0, next_cron_at = NULL,
    removed_in = (SELECT number FROM environments JOIN builds ON builds.id = live_build_id WHERE name = :environment)
WHERE id = :id;

-- name: forget_names
DELETE FROM former_names WHERE environment = ?;

-- name: insert_name
INSERT INTO former_names (environment, name, function_id) VALUES (?, ?, ?);

-- name: formers
SELECT former_names.function_id, former.id
FROM former_names
JOIN functions AS former ON former.environment = former_names.environment AND former.name = former_names.name
WHERE former_names.environment = ?;

-- name: waiting
SELECT id, spec, active, count FROM functions JOIN counters ON function_id = id AND state = 'created'
WHERE environment = ? ORDER BY name;

-- name: waiting_one
SELECT id FROM executions WHERE function_id = ? AND state = 'created' ORDER BY seq LIMIT 1;

-- What is nested too deep for SQLite to read is left out.
-- name: shapes
SELECT json_array_length(arguments),
       CASE keyword_arguments WHEN '{}' THEN '[]'
       ELSE (SELECT json_group_array(key) FROM json_each(keyword_arguments)) END AS keywords,
       count(*), min(id), max(seq)
FROM executions INDEXED BY executions_function
WHERE function_id = :function_id AND state = 'created' AND seq > :after
  AND json_valid(arguments) AND json_valid(keyword_arguments)
GROUP BY 1, 2 LIMIT 10000;

-- name: stop_cron
UPDATE functions SET next_cron_at = NULL WHERE environment = ? AND next_cron_at IS NOT NULL;
