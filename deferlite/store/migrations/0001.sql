-- Moments are microseconds since 1970 (UTC). JSON is text.

CREATE TABLE environments (
  name          TEXT PRIMARY KEY,
  state         TEXT NOT NULL CHECK (state IN ('active', 'retired')),
  config        TEXT CHECK (config IS NULL OR json_valid(config)),
  error         TEXT,
  problem       TEXT,
  source        TEXT NOT NULL,
  live_build_id TEXT REFERENCES builds (id),
  pinned        INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)),
  created_at    INTEGER NOT NULL,
  updated_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE tokens (
  id           TEXT PRIMARY KEY,
  environment  TEXT NOT NULL REFERENCES environments (name),
  name         TEXT NOT NULL,
  hash         TEXT NOT NULL UNIQUE,
  -- 1: the one that the environment's file names; it comes and goes with it.
  from_file    INTEGER NOT NULL DEFAULT 0 CHECK (from_file IN (0, 1)),
  created_at   INTEGER NOT NULL,
  revoked_at   INTEGER
) STRICT;
CREATE INDEX tokens_environment ON tokens (environment);

CREATE TABLE builds (
  id           TEXT PRIMARY KEY,
  environment  TEXT NOT NULL REFERENCES environments (name),
  number       INTEGER NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('created', 'started', 'cloning', 'installing', 'generating',
                                              'compiling', 'publishing', 'succeed', 'failed')),
  build_trigger TEXT NOT NULL CHECK (build_trigger IN ('new environment', 'commit', 'settings', 'worktree', 'manual')),
  "commit"     TEXT,
  branch       TEXT,
  message      TEXT NOT NULL DEFAULT '',
  config       TEXT NOT NULL CHECK (json_valid(config)),
  manifest     TEXT CHECK (manifest IS NULL OR json_valid(manifest)),
  error        TEXT,
  created_at   INTEGER NOT NULL,
  started_at   INTEGER,
  finished_at  INTEGER,
  UNIQUE (environment, number),
  CHECK ((state = 'created') = (started_at IS NULL) OR state = 'failed'),
  CHECK ((state IN ('succeed', 'failed')) = (finished_at IS NOT NULL)),
  CHECK ((state = 'failed') = (error IS NOT NULL)),
  CHECK (state != 'succeed' OR manifest IS NOT NULL)
) STRICT;
CREATE INDEX builds_unfinished ON builds (environment, number) WHERE finished_at IS NULL;

CREATE TABLE build_steps (
  build_id    TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
  position    INTEGER NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('started', 'cloning', 'installing', 'generating', 'compiling',
                                             'publishing')),
  started_at  INTEGER NOT NULL,
  finished_at INTEGER,
  PRIMARY KEY (build_id, position),
  UNIQUE (build_id, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE build_logs (
  seq      INTEGER PRIMARY KEY,
  build_id TEXT NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
  time     INTEGER NOT NULL,
  stream   TEXT NOT NULL,
  level    TEXT NOT NULL DEFAULT '',
  text     TEXT NOT NULL
) STRICT;
CREATE INDEX build_logs_build ON build_logs (build_id, seq);

CREATE TABLE functions (
  id           TEXT PRIMARY KEY,
  environment  TEXT NOT NULL REFERENCES environments (name),
  name         TEXT NOT NULL,
  spec         TEXT NOT NULL CHECK (json_valid(spec)),
  options      TEXT NOT NULL CHECK (json_valid(options)),
  active       INTEGER NOT NULL CHECK (active IN (0, 1)),
  next_cron_at INTEGER,
  last_cron_at INTEGER,
  UNIQUE (environment, name),
  CHECK (next_cron_at IS NULL OR active)
) STRICT;
CREATE INDEX functions_cron ON functions (next_cron_at) WHERE next_cron_at IS NOT NULL;

CREATE TABLE executions (
  seq               INTEGER PRIMARY KEY AUTOINCREMENT,
  id                TEXT NOT NULL UNIQUE,
  environment       TEXT NOT NULL REFERENCES environments (name),
  function_id       TEXT NOT NULL REFERENCES functions (id),
  function_name     TEXT NOT NULL,
  state             TEXT NOT NULL CHECK (state IN ('created', 'started', 'aborting', 'succeed', 'failed',
                                                   'cancelled', 'aborted', 'discarded')),
  -- 1: due. A delayed row becomes ready by its timer, so that the claim reads only rows it can take.
  ready             INTEGER NOT NULL CHECK (ready IN (0, 1)),
  priority          INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
  scheduled_at      INTEGER NOT NULL,
  discard_at        INTEGER,
  created_at        INTEGER NOT NULL,
  updated_at        INTEGER NOT NULL,
  started_at        INTEGER,
  finished_at       INTEGER,
  attempt           INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
  retries           INTEGER NOT NULL DEFAULT 0 CHECK (retries >= 0),
  interruptions     INTEGER NOT NULL DEFAULT 0 CHECK (interruptions BETWEEN 0 AND 3),
  error_code        TEXT CHECK (error_code IN ('ER0000', 'ER0001', 'ER0002', 'ER0003')),
  build_id          TEXT REFERENCES builds (id),
  arguments         TEXT NOT NULL,
  keyword_arguments TEXT NOT NULL,
  result            TEXT,
  metadata          TEXT NOT NULL DEFAULT '{}',
  idempotency_key   TEXT,
  concurrency_key   TEXT,
  parent_id         TEXT,
  rerun_of          TEXT,
  cron_tick         INTEGER,
  executed_by       TEXT NOT NULL DEFAULT 'api',
  CHECK ((state IN ('succeed', 'failed', 'cancelled', 'aborted', 'discarded')) = (finished_at IS NOT NULL)),
  CHECK ((state IN ('succeed', 'failed')) = (result IS NOT NULL)),
  CHECK ((state = 'failed') = (error_code IS NOT NULL)),
  CHECK (state NOT IN ('started', 'aborting', 'succeed', 'aborted') OR
         (started_at IS NOT NULL AND attempt > 0 AND build_id IS NOT NULL)),
  CHECK (ready = 0 OR state = 'created'),
  CHECK (attempt >= retries AND attempt >= interruptions)
) STRICT;
-- By key, since of one key only the first may be claimed: the many without a key are one run of it.
CREATE INDEX executions_claim ON executions (function_id, concurrency_key, priority DESC, seq)
  WHERE state = 'created' AND ready = 1;
CREATE INDEX executions_timer ON executions (scheduled_at) WHERE state = 'created' AND ready = 0;
-- Only what has never started is discarded: a retry that waits has, and so has an interrupted one.
CREATE INDEX executions_discard ON executions (discard_at)
  WHERE state = 'created' AND attempt = 0 AND discard_at IS NOT NULL;
CREATE INDEX executions_running ON executions (environment, seq) WHERE state IN ('started', 'aborting');
-- Lists are merged from one ordered walk per state, so that a rare state is found at once among a million others.
CREATE INDEX executions_environment ON executions (environment, state, seq);
CREATE INDEX executions_function ON executions (function_id, state, seq);
CREATE INDEX executions_failed ON executions (seq) WHERE state = 'failed';
CREATE INDEX executions_finished ON executions (environment, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX executions_parent ON executions (parent_id, seq) WHERE parent_id IS NOT NULL;
CREATE INDEX executions_key ON executions (environment, idempotency_key, created_at) WHERE idempotency_key IS NOT NULL;
CREATE INDEX executions_concurrency ON executions (environment, concurrency_key)
  WHERE concurrency_key IS NOT NULL AND state IN ('started', 'aborting');
-- A tick runs at most once, whatever happens.
CREATE UNIQUE INDEX executions_tick ON executions (function_id, cron_tick) WHERE cron_tick IS NOT NULL;

CREATE TABLE execution_metadata (
  environment TEXT NOT NULL,
  key         TEXT NOT NULL,
  value       TEXT NOT NULL,
  seq         INTEGER NOT NULL REFERENCES executions (seq) ON DELETE CASCADE,
  PRIMARY KEY (environment, key, value, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX execution_metadata_seq ON execution_metadata (seq);

CREATE TABLE attempts (
  execution_id TEXT NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  number       INTEGER NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('started', 'succeed', 'failed', 'aborted')),
  build_id     TEXT NOT NULL REFERENCES builds (id),
  boot_id      TEXT NOT NULL,
  sandbox      TEXT NOT NULL,
  started_at   INTEGER NOT NULL,
  finished_at  INTEGER,
  error_code   TEXT CHECK (error_code IN ('ER0000', 'ER0001', 'ER0002', 'ER0003')),
  interrupted  INTEGER NOT NULL DEFAULT 0 CHECK (interrupted IN (0, 1)),
  result       TEXT,
  cpu_time     REAL,
  memory_peak  INTEGER,
  PRIMARY KEY (execution_id, number),
  CHECK ((state = 'started') = (finished_at IS NULL)),
  CHECK ((state = 'failed') = (error_code IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE execution_logs (
  seq          INTEGER PRIMARY KEY,
  execution_id TEXT NOT NULL REFERENCES executions (id) ON DELETE CASCADE,
  attempt      INTEGER NOT NULL,
  time         INTEGER NOT NULL,
  stream       TEXT NOT NULL,
  level        TEXT NOT NULL DEFAULT '',
  text         TEXT NOT NULL
) STRICT;
CREATE INDEX execution_logs_execution ON execution_logs (execution_id, seq);

-- Counters kept with every change, so that no page counts rows. All rows of a function are there from the start:
-- an update of one is half the price of an upsert, and every enqueue pays it.
CREATE TABLE counters (
  function_id TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
  state       TEXT NOT NULL,
  count       INTEGER NOT NULL CHECK (count >= 0),
  PRIMARY KEY (function_id, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER functions_count AFTER INSERT ON functions BEGIN
  INSERT INTO counters VALUES
    (new.id, 'created', 0), (new.id, 'started', 0), (new.id, 'aborting', 0), (new.id, 'succeed', 0),
    (new.id, 'failed', 0), (new.id, 'cancelled', 0), (new.id, 'aborted', 0), (new.id, 'discarded', 0);
END;
CREATE TRIGGER executions_count_insert AFTER INSERT ON executions BEGIN
  UPDATE counters SET count = count + 1 WHERE function_id = new.function_id AND state = new.state;
END;
CREATE TRIGGER executions_count_update AFTER UPDATE OF state ON executions WHEN old.state != new.state BEGIN
  UPDATE counters SET count = count - 1 WHERE function_id = old.function_id AND state = old.state;
  UPDATE counters SET count = count + 1 WHERE function_id = new.function_id AND state = new.state;
END;
CREATE TRIGGER executions_count_delete AFTER DELETE ON executions BEGIN
  UPDATE counters SET count = count - 1 WHERE function_id = old.function_id AND state = old.state;
END;

-- What is to be told to the outside once: written in the transaction that it speaks of.
CREATE TABLE outbox (
  seq         INTEGER PRIMARY KEY,
  environment TEXT NOT NULL,
  kind        TEXT NOT NULL,
  payload     TEXT NOT NULL CHECK (json_valid(payload)),
  created_at  INTEGER NOT NULL
) STRICT;
