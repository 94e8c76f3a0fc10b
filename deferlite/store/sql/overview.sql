-- name: builds
SELECT {build} FROM builds WHERE id IN (
  SELECT live_build_id FROM environments WHERE state = 'active' OR :include_retired
  UNION
  SELECT build.id FROM environments JOIN builds AS build ON build.environment = environments.name
  WHERE (environments.state = 'active' OR :include_retired)
    AND build.number > (SELECT max(number) FROM builds WHERE environment = environments.name) - :newest
)
ORDER BY builds.environment, number DESC;

-- name: functions
SELECT environment, count(*) FROM functions WHERE active = 1 GROUP BY environment;
