-- name: get
SELECT {environment} FROM environments WHERE name = ?;

-- name: list
SELECT {environment} FROM environments WHERE state = 'active' OR :include_retired ORDER BY name;

-- name: apply
INSERT INTO environments (name, state, config, error, source, created_at, updated_at)
VALUES (:name, 'active', :config, NULL, :source, :now, :now)
ON CONFLICT (name) DO UPDATE
SET state = 'active', config = :config, error = NULL, source = :source, updated_at = :now;

-- name: reject
INSERT INTO environments (name, state, config, error, source, created_at, updated_at)
VALUES (:name, 'active', NULL, :error, :source, :now, :now)
ON CONFLICT (name) DO UPDATE SET state = 'active', error = :error, source = :source, updated_at = :now;

-- name: retire
UPDATE environments SET state = 'retired', error = NULL, problem = NULL, updated_at = :now WHERE name = :name AND state = 'active';

-- name: switch
UPDATE environments SET live_build_id = :build_id, pinned = :pinned, updated_at = :now WHERE name = :name;

-- name: report
UPDATE environments SET problem = :problem, updated_at = :now WHERE name = :name;
