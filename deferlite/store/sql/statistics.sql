-- name: environments
SELECT environment, state, sum(count) FROM counters JOIN functions ON functions.id = function_id
WHERE count > 0 GROUP BY environment, state;

-- name: functions
SELECT function_id, state, count FROM counters JOIN functions ON functions.id = function_id
WHERE environment = ? AND count > 0;

-- name: executions
SELECT environment, name, state, count FROM counters JOIN functions ON functions.id = function_id
ORDER BY environment, name, state;

-- name: builds
SELECT environment, state, count(*) FROM builds GROUP BY environment, state;
