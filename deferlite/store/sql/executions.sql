-- Reading.

-- name: get
SELECT {execution} FROM executions WHERE id = :id AND (:environment IS NULL OR environment = :environment);

-- name: arguments
SELECT arguments, keyword_arguments FROM executions WHERE id = :id;

-- name: result
SELECT result FROM executions WHERE id = :id;

-- The value of a success is kept once, with the execution.
-- name: attempt_result
SELECT CASE attempts.state WHEN 'succeed' THEN executions.result ELSE attempts.result END
FROM attempts JOIN executions ON executions.id = attempts.execution_id
WHERE execution_id = ? AND number = ?;

-- name: children
SELECT {execution} FROM executions WHERE parent_id = ? ORDER BY seq LIMIT 1000;

-- name: next_due
SELECT min(scheduled_at) FROM executions WHERE state = 'created' AND ready = 0
UNION ALL
SELECT min(discard_at) FROM executions WHERE state = 'created' AND attempt = 0 AND discard_at IS NOT NULL
UNION ALL
SELECT min(next_cron_at) FROM functions WHERE next_cron_at IS NOT NULL;

-- Enqueueing.

-- name: environment
SELECT state, live_build_id FROM environments WHERE name = ?;

-- name: active_function
SELECT id, name FROM functions WHERE environment = :environment AND name = :name AND active = 1
UNION ALL
SELECT id, functions.name FROM former_names JOIN functions ON id = function_id
WHERE former_names.environment = :environment AND former_names.name = :name
LIMIT 1;

-- name: same_key
SELECT {execution} FROM executions
WHERE environment = :environment AND idempotency_key = :key AND created_at > :since
ORDER BY created_at DESC LIMIT 1;

-- name: insert
INSERT INTO executions (id, environment, function_id, function_name, state, ready, priority, scheduled_at,
                        discard_at, created_at, updated_at, metadata, parent_id, rerun_of, idempotency_key,
                        concurrency_key, executed_by, arguments, keyword_arguments)
VALUES (?, ?, ?, ?, 'created', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: insert_metadata
INSERT INTO execution_metadata (environment, key, value, seq)
SELECT environment, ?, ?, seq FROM executions WHERE id = ?;

-- name: insert_tick
INSERT INTO executions (id, environment, function_id, function_name, state, ready, scheduled_at, created_at,
                        updated_at, arguments, keyword_arguments, cron_tick, executed_by)
VALUES (:id, :environment, :function_id, :function_name, 'created', 1, :tick, :now, :now, '[]', '{}', :tick, 'cron')
ON CONFLICT DO NOTHING;

-- Running.

-- The next keys after one that wait in a function, one seek for each, and whether each is free. A parked execution
-- (a parent that waits) does not hold its key.
-- name: waiting_keys
WITH RECURSIVE keys (key) AS (
  SELECT min(concurrency_key) FROM executions INDEXED BY executions_claim
  WHERE function_id = :function_id AND state = 'created' AND ready = 1 AND concurrency_key > :after
  UNION ALL
  SELECT (SELECT min(concurrency_key) FROM executions INDEXED BY executions_claim
          WHERE function_id = :function_id AND state = 'created' AND ready = 1 AND concurrency_key > key)
  FROM keys WHERE key IS NOT NULL
  LIMIT :most
)
SELECT key, NOT EXISTS (
  SELECT 1 FROM executions INDEXED BY executions_concurrency
  WHERE environment = :environment AND concurrency_key = key AND state IN ('started', 'aborting')
    AND id NOT IN (SELECT value FROM json_each(:parked))
)
FROM keys WHERE key IS NOT NULL;

-- Of those without a key the first ones, of each free key the first one; of all these the first ones.
-- name: claim
UPDATE executions
SET state = 'started', ready = 0, attempt = attempt + 1, started_at = :now, updated_at = :now,
    build_id = (SELECT live_build_id FROM environments WHERE name = :environment)
WHERE seq IN (
  SELECT seq FROM (
    SELECT * FROM (
      SELECT priority, seq FROM executions INDEXED BY executions_claim
      WHERE function_id = :function_id AND state = 'created' AND ready = 1 AND concurrency_key IS NULL
        AND (discard_at IS NULL OR discard_at > :now OR attempt > 0)
      ORDER BY priority DESC, seq
      LIMIT :slots
    )
    UNION ALL
    SELECT priority, seq FROM json_each(:keys) JOIN executions ON seq = (
      SELECT seq FROM executions INDEXED BY executions_claim
      WHERE function_id = :function_id AND state = 'created' AND ready = 1 AND concurrency_key = value
        AND (discard_at IS NULL OR discard_at > :now OR attempt > 0)
      ORDER BY priority DESC, seq
      LIMIT 1
    )
  )
  ORDER BY priority DESC, seq
  LIMIT :slots
)
RETURNING priority, seq, {claimed};

-- name: may_run
SELECT 1 FROM functions JOIN environments ON environments.name = functions.environment
JOIN builds ON builds.id = live_build_id AND gone = 0
WHERE functions.id = :function_id AND environments.name = :environment AND active = 1
  AND environments.state = 'active';

-- name: insert_attempt
INSERT INTO attempts (execution_id, number, state, build_id, boot_id, sandbox, started_at)
VALUES (?, ?, 'started', ?, ?, ?, ?);

-- name: succeed
UPDATE executions SET state = 'succeed', result = :result, finished_at = :now, updated_at = :now
WHERE id = :id AND attempt = :attempt AND state = 'started'
RETURNING {execution};

-- name: running_attempt
SELECT executions.state, retries, interruptions, functions.options
FROM executions JOIN functions ON functions.id = coalesce((
  SELECT former_names.function_id FROM former_names
  WHERE former_names.environment = executions.environment AND former_names.name = function_name
), executions.function_id)
WHERE executions.id = :id AND attempt = :attempt AND executions.state IN ('started', 'aborting');

-- name: fail
UPDATE executions
SET state = 'failed', error_code = :error_code, result = :result, interruptions = :interruptions,
    finished_at = :now, updated_at = :now
WHERE id = :id AND attempt = :attempt AND state = 'started'
RETURNING {execution};

-- name: abort
UPDATE executions SET state = 'aborted', finished_at = :now, updated_at = :now
WHERE id = :id AND attempt = :attempt AND state IN ('started', 'aborting')
RETURNING {execution};

-- Under a former name it goes on under the new one.
-- name: put_back
UPDATE executions
SET state = 'created', ready = :ready, scheduled_at = coalesce(:scheduled_at, scheduled_at),
    retries = :retries, interruptions = :interruptions, updated_at = :now,
    (function_id, function_name) = (
      SELECT id, name FROM functions WHERE id = coalesce((
        SELECT former_names.function_id FROM former_names
        WHERE former_names.environment = executions.environment AND former_names.name = function_name
      ), executions.function_id)
    ),
    cron_tick = CASE WHEN EXISTS (
      SELECT 1 FROM former_names JOIN executions AS ticked USING (function_id)
      WHERE former_names.environment = executions.environment AND former_names.name = executions.function_name
        AND ticked.cron_tick = executions.cron_tick
    ) THEN NULL ELSE cron_tick END
WHERE id = :id AND attempt = :attempt AND state = 'started'
RETURNING {execution};

-- name: end_attempt
UPDATE attempts
SET state = :state, error_code = :error_code, interrupted = :interrupted, result = :result,
    cpu_time = :cpu_time, memory_peak = :memory_peak, finished_at = :now
WHERE execution_id = :id AND number = :attempt AND state = 'started';

-- name: left_running
SELECT executions.id, attempt, executions.state, retries, interruptions
FROM executions INDEXED BY executions_running
LEFT JOIN attempts ON execution_id = executions.id AND number = attempt
WHERE executions.state IN ('started', 'aborting') AND boot_id IS NOT :boot_id
ORDER BY seq;

-- Steering.

-- name: cancel
UPDATE executions SET state = 'cancelled', ready = 0, finished_at = :now, updated_at = :now
WHERE id = :id AND (:environment IS NULL OR environment = :environment) AND state = 'created'
RETURNING {execution};

-- name: start_aborting
UPDATE executions SET state = 'aborting', updated_at = :now
WHERE id = :id AND (:environment IS NULL OR environment = :environment) AND state = 'started'
RETURNING {execution};

-- name: reschedule
UPDATE executions SET scheduled_at = :scheduled_at, ready = :ready, updated_at = :now
WHERE id = :id AND (:environment IS NULL OR environment = :environment) AND state = 'created'
RETURNING {execution};

-- name: original
SELECT environment, function_name, arguments, keyword_arguments, metadata, priority, concurrency_key
FROM executions WHERE id = :id AND (:environment IS NULL OR environment = :environment);

-- name: cancel_waiting
UPDATE executions SET state = 'cancelled', ready = 0, finished_at = :now, updated_at = :now
WHERE seq IN (
  SELECT seq FROM executions INDEXED BY executions_environment
  WHERE environment = :environment AND state = 'created'
  LIMIT :most
)
RETURNING {execution};

-- name: retired_waiting
SELECT name FROM environments
WHERE preview IS NOT NULL AND environments.state = 'retired'
  AND EXISTS (SELECT 1 FROM executions WHERE environment = name AND executions.state = 'created')
LIMIT 1;

-- name: cancel_excess
UPDATE executions INDEXED BY executions_claim
SET state = 'cancelled', ready = 0, finished_at = :now, updated_at = :now
WHERE function_id = :function_id AND state = 'created' AND ready = 1
RETURNING {execution};

-- Time.

-- name: promote
UPDATE executions SET ready = 1, updated_at = :now
WHERE state = 'created' AND ready = 0 AND scheduled_at <= :now
RETURNING environment, function_id;

-- name: discard
UPDATE executions SET state = 'discarded', ready = 0, finished_at = :now, updated_at = :now
WHERE state = 'created' AND attempt = 0 AND discard_at IS NOT NULL AND discard_at <= :now
RETURNING {execution};

-- What waits under a former name. A tick that its heir has had already, or gets twice, becomes an execution like any
-- other: all rows are computed before the first one is written.
-- name: take_over
WITH waiting AS MATERIALIZED (  -- Else SQLite goes through all that wait, whatever the limit: 63 ms instead of 1 of 200,000.
  SELECT executions.seq, executions.cron_tick, heirs.id AS heir, heirs.name
  FROM former_names
  CROSS JOIN functions AS former ON former.environment = former_names.environment AND former.name = former_names.name
  CROSS JOIN executions INDEXED BY executions_function
    ON executions.function_id = former.id AND executions.state = 'created'
  CROSS JOIN functions AS heirs ON heirs.id = former_names.function_id
  LIMIT :most
)
UPDATE executions
SET function_id = moved.heir, function_name = moved.name, updated_at = :now,
    cron_tick = CASE WHEN turn > 1 OR EXISTS (
      SELECT 1 FROM executions AS ticked WHERE ticked.function_id = moved.heir AND ticked.cron_tick = executions.cron_tick
    ) THEN NULL ELSE executions.cron_tick END
FROM (SELECT *, row_number() OVER (PARTITION BY heir, cron_tick ORDER BY seq) AS turn FROM waiting) AS moved
WHERE executions.seq = moved.seq
RETURNING environment, function_id;

-- name: fail_orphans
UPDATE executions
SET state = 'failed', ready = 0, error_code = 'ER0000', finished_at = :now, updated_at = :now,
    result = json_object('name', 'UnknownFunctionError', 'stack', '', 'message', orphans.message)
FROM (
  SELECT executions.seq,
    'the live build of ' || functions.environment || ' has no function "' || functions.name || '" any more: '
    || coalesce('build ' || removed_in, 'an older build') || ' removed or renamed it while this execution waited; '
    || 'give the one that took its place aliases=["' || functions.name || '"] and run this again' AS message
  FROM functions
  CROSS JOIN environments ON environments.name = functions.environment AND environments.state = 'active'
  LEFT JOIN former_names
    ON former_names.environment = functions.environment AND former_names.name = functions.name
  CROSS JOIN executions INDEXED BY executions_claim
    ON executions.function_id = functions.id AND executions.state = 'created' AND ready = 1
  WHERE active = 0 AND former_names.name IS NULL
  LIMIT :most
) AS orphans
WHERE executions.seq = orphans.seq
RETURNING {execution};

-- name: due_crons
SELECT functions.id, environment, functions.name, options, next_cron_at
FROM functions JOIN environments ON environments.name = environment
WHERE next_cron_at <= :now AND active = 1 AND environments.state = 'active';

-- name: set_cron
UPDATE functions SET next_cron_at = :next, last_cron_at = coalesce(:last, last_cron_at) WHERE id = :id;
