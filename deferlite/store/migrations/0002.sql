-- What a preview is a preview of: JSON of Preview.
ALTER TABLE environments ADD COLUMN preview TEXT CHECK (preview IS NULL OR json_valid(preview));
ALTER TABLE environments ADD COLUMN note TEXT;
CREATE INDEX environments_preview ON environments (json_extract(preview, '$.of')) WHERE preview IS NOT NULL;

ALTER TABLE builds ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1));
ALTER TABLE builds ADD COLUMN builder TEXT NOT NULL DEFAULT '';
-- JSON of Changes and of a list of Finding.
ALTER TABLE builds ADD COLUMN changes TEXT CHECK (changes IS NULL OR json_valid(changes));
ALTER TABLE builds ADD COLUMN findings TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(findings));
-- 1: asked for though its commit is not the one followed.
ALTER TABLE builds ADD COLUMN aside INTEGER NOT NULL DEFAULT 0 CHECK (aside IN (0, 1));
-- 1: its files are removed, or are about to be.
ALTER TABLE builds ADD COLUMN gone INTEGER NOT NULL DEFAULT 0 CHECK (gone IN (0, 1));
-- No build up to this number ends what holds the environment on its live build.
ALTER TABLE environments ADD COLUMN pinned_over INTEGER NOT NULL DEFAULT 0;

-- The number of the build that had it no more.
ALTER TABLE functions ADD COLUMN removed_in INTEGER;
CREATE INDEX functions_inactive ON functions (environment) WHERE active = 0;
-- The active function that each former name stands for.
CREATE TABLE former_names (
  environment TEXT NOT NULL REFERENCES environments (name),
  name        TEXT NOT NULL,
  function_id TEXT NOT NULL REFERENCES functions (id) ON DELETE CASCADE,
  PRIMARY KEY (environment, name)
) STRICT, WITHOUT ROWID;

DROP TRIGGER executions_count_update;
CREATE TRIGGER executions_count_update AFTER UPDATE OF state, function_id ON executions
WHEN old.state != new.state OR old.function_id != new.function_id BEGIN
  UPDATE counters SET count = count - 1 WHERE function_id = old.function_id AND state = old.state;
  UPDATE counters SET count = count + 1 WHERE function_id = new.function_id AND state = new.state;
END;
