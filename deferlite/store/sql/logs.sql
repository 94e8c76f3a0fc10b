-- name: environment_of_execution
SELECT environment FROM executions WHERE id = ?;

-- name: append
INSERT INTO execution_logs (execution_id, attempt, time, stream, text, level) VALUES (?, ?, ?, ?, ?, ?);

-- name: read
SELECT seq, attempt, time, stream, text, level FROM execution_logs
WHERE execution_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: environment_of_build
SELECT environment FROM builds WHERE id = ?;

-- name: append_build
INSERT INTO build_logs (build_id, time, stream, text, level) VALUES (?, ?, ?, ?, ?);

-- name: read_build
SELECT seq, time, stream, text, level FROM build_logs WHERE build_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: build_tail
SELECT time, stream, text, level FROM build_logs WHERE build_id = ? AND time >= ? ORDER BY seq DESC LIMIT ?;
