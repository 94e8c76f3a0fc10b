-- name: valid
SELECT hash, environment FROM tokens JOIN environments ON environments.name = environment
WHERE revoked_at IS NULL AND state = 'active';

-- name: list
SELECT {token} FROM tokens WHERE environment = ? ORDER BY created_at, id;

-- name: insert
INSERT INTO tokens (id, environment, name, hash, from_file, created_at)
VALUES (:id, :environment, :name, :hash, :from_file, :now)
RETURNING {token};

-- name: revoke
UPDATE tokens SET revoked_at = :now
WHERE environment = :environment AND id = :id AND from_file = 0 AND revoked_at IS NULL;

-- name: from_file
SELECT from_file FROM tokens WHERE environment = :environment AND id = :id;

-- name: of_file
SELECT hash FROM tokens WHERE environment = ? AND from_file = 1;

-- name: owner
SELECT environment FROM tokens WHERE hash = ?;

-- name: forget_file
DELETE FROM tokens WHERE environment = ? AND from_file = 1;
