// Drives @defer/client 2.3.0, as it was published, against the server of DEFER_ENDPOINT.
import { UNKNOWN, assert, fails, finish, step, until } from "./support.mjs";

const client = await import("defer-client-2");
const { assignOptions, defer } = client;

const hello = defer(async function hello() {});
const broken = defer(async function broken() {});
const sleepy = defer(async function sleepy() {});
const stubborn = defer(async function stubborn() {});
const missing = defer(async function missing() {});
const HOUR = 3600 * 1000;
const later = (fn) => assignOptions(fn, { delay: "1h" });
const ids = (page) => page.data.map((execution) => execution.id);
const reach = (id, ...states) =>
  until(() => client.getExecution(id), (execution) => states.includes(execution.state));

function near(date, wanted) {
  assert.ok(date instanceof Date && Math.abs(date.getTime() - wanted) < 60_000, `${date} is not near`);
}

await step("enqueue", async () => {
  const execution = await hello("world", { deep: [1, null, "é"] });
  assert.match(execution.id, /^[0-9a-f-]{36}$/);
  assert.equal(execution.functionName, "hello");
  assert.match(execution.functionId, /^[0-9a-f-]{36}$/);
  for (const date of [execution.scheduledAt, execution.createdAt, execution.updatedAt]) near(date, Date.now());
  await fails(missing(), "DeferError", /"400" and message "cannot find function "missing""/);
});

await step("delay", async () => {
  const delayed = await later(hello)("later");
  assert.equal(delayed.state, "created");
  near(delayed.scheduledAt, Date.now() + HOUR);
  const date = new Date(Date.now() + 2 * HOUR);
  assert.equal((await client.delay(hello, date)()).scheduledAt.getTime(), date.getTime());
  assert.equal((await assignOptions(later(hello), { discardAfter: "2 days" })()).state, "created");
});

await step("metadata", async () => {
  const { id } = await client.addMetadata(later(hello), { user: "meta-7" })();
  const found = await client.listExecutions({}, { metadata: [{ key: "user", values: ["meta-7"] }] });
  assert.deepEqual(ids(found), [id]);
  await fails(assignOptions(hello, { metadata: { "": "x" } })(), "DeferError", /"400" and message "metadata: /);
});

await step("getExecution", async () => {
  const made = await later(hello)();
  assert.deepEqual(await client.getExecution(made.id), made);
  await fails(client.getExecution(UNKNOWN), "ExecutionNotFound", new RegExp(`cannot find execution "${UNKNOWN}"`));
  await fails(client.getExecution("nonsense"), "DeferError", /"400" and message "malformed id/);
});

await step("result", async () => {
  const good = await hello("result", 2);
  await reach(good.id, "succeed");
  assert.deepEqual(await client.getExecutionResult(good.id), ["result", 2]);
  const bad = await broken("no such company");
  await reach(bad.id, "failed");
  const error = await client.getExecutionResult(bad.id);
  assert.deepEqual([error.name, error.message], ["ValueError", "no such company"]);
  const waiting = await later(hello)();
  await fails(client.getExecutionResult(waiting.id), "ExecutionResultNotAvailableYet", /not available yet/);
  await client.cancelExecution(waiting.id);
  await fails(client.getExecutionResult(waiting.id), "ExecutionResultNotAvailable", /not available/);
  await fails(client.getExecutionResult(UNKNOWN), "ExecutionNotFound", /cannot find execution/);
});

await step("cancel", async () => {
  const { id } = await later(hello)();
  assert.equal((await client.cancelExecution(id)).state, "cancelled");
  await fails(client.cancelExecution(id), "ExecutionNotCancellable", /cannot cancel execution in "cancelled" state/);
  await fails(client.cancelExecution(UNKNOWN, true), "ExecutionNotFound", /cannot find execution/);
});

await step("abort", async () => {
  const { id } = await sleepy();
  await reach(id, "started");
  await fails(client.cancelExecution(id), "ExecutionNotCancellable", /cannot cancel execution in "started" state/);
  assert.equal((await client.cancelExecution(id, true)).state, "aborting");
  await reach(id, "aborted");
  const hard = await stubborn();
  await reach(hard.id, "started");
  assert.equal((await client.cancelExecution(hard.id, { force: true })).state, "aborting");
  await fails(client.cancelExecution(hard.id, true), "ExecutionAbortingAlreadyInProgress", /./);
});

await step("reschedule", async () => {
  const { id } = await later(hello)("moved");
  near((await client.rescheduleExecution(id, "3 hours")).scheduledAt, Date.now() + 3 * HOUR);
  const date = new Date(Date.now() + 5 * HOUR);
  assert.equal((await client.rescheduleExecution(id, date)).scheduledAt.getTime(), date.getTime());
  near((await client.rescheduleExecution(id)).scheduledAt, Date.now());
  await reach(id, "succeed");
  await fails(client.rescheduleExecution(id), "ExecutionNotReschedulable", /"succeed" state/);
  await fails(client.rescheduleExecution(UNKNOWN), "ExecutionNotFound", /cannot find execution/);
});

await step("re-run", async () => {
  const first = await hello("again");
  await reach(first.id, "succeed");
  const second = await client.reRunExecution(first.id);
  assert.notEqual(second.id, first.id);
  await reach(second.id, "succeed");
  assert.deepEqual(await client.getExecutionResult(second.id), ["again"]);
  await fails(client.reRunExecution(UNKNOWN), "ExecutionNotFound", /cannot find execution/);
});

await step("list and every filter", async () => {
  const list = (filters) => client.listExecutions({ first: 100 }, { metadata: [{ key: "run", values: ["list"] }], ...filters });
  const tagged = (fn) => assignOptions(fn, { metadata: { run: "list" } });
  const good = await tagged(hello)();
  await reach(good.id, "succeed");
  const bad = await tagged(broken)("no");
  await reach(bad.id, "failed");
  const soon = await tagged(later(hello))();
  const hour = { from: new Date(Date.now() - HOUR / 2), to: new Date(Date.now() + HOUR / 2) };
  const all = [soon.id, bad.id, good.id];
  const cases = [
    [undefined, all],
    [{ states: ["failed"] }, [bad.id]],
    [{ states: ["failed", "created"] }, [soon.id, bad.id]],
    [{ functionIds: [bad.functionId] }, [bad.id]],
    [{ errorCodes: ["ER0003"] }, [bad.id]],
    [{ errorCodes: ["ER0001", "ER0002"] }, []],
    [{ scheduleAt: hour }, [bad.id, good.id]],
    [{ startedAt: hour }, [bad.id, good.id]],
    [{ executedBy: "api" }, all],
    [{ executedBy: "cron" }, []],
    [{ metadata: [{ key: "run", values: ["other"] }] }, []],
    [{ states: ["failed"], functionIds: [good.functionId] }, []],
  ];
  for (const [filters, expected] of cases) assert.deepEqual(ids(await list(filters)), expected, JSON.stringify(filters));
  await fails(list({ states: ["done"] }), "DeferError", /"400" and message "filters.states/);
  assert.ok((await client.listExecutions()).data.length >= 3);
});

await step("pages both ways", async () => {
  const made = [];
  for (let n = 0; n < 5; n++) made.unshift((await assignOptions(later(hello), { metadata: { run: "pages" } })()).id);
  const filters = { metadata: [{ key: "run", values: ["pages"] }] };
  const walk = async (next) => {
    const pages = [];
    for (let page = next(); page; ) {
      const answer = await client.listExecutions(page, filters);
      pages.push(ids(answer));
      page = next(answer.pageInfo);
    }
    return pages;
  };
  const forth = await walk((info) => (!info ? { first: 2 } : info.hasNextPage && { first: 2, after: info.endCursor }));
  assert.deepEqual(forth, [made.slice(0, 2), made.slice(2, 4), made.slice(4)]);
  const back = await walk((info) => (!info ? { last: 2 } : info.hasPrevPage && { last: 2, before: info.startCursor }));
  assert.deepEqual(back, [made.slice(3), made.slice(1, 3), made.slice(0, 1)]);
});

await step("attempts", async () => {
  const { id, functionId } = await broken("once");
  await reach(id, "failed");
  const all = await client.listExecutionAttempts(id, { first: 10 }, { states: ["failed"], functionIds: [functionId] });
  assert.deepEqual(all.data.map((attempt) => [attempt.state, attempt.functionName]), [["failed", "broken"]]);
  near(all.data[0].createdAt, Date.now());
  assert.deepEqual((await client.listExecutionAttempts(id, {}, { states: ["succeed"] })).data, []);
  assert.equal((await client.getExecutionTries(id)).data.length, 1);
  await fails(client.listExecutionAttempts(UNKNOWN), "ExecutionNotFound", /cannot find execution/);
});

await step("awaitResult", async () => {
  assert.deepEqual(await client.awaitResult(hello)("awaited"), ["awaited"]);
  await fails(client.awaitResult(broken)("awaited"), "DeferError", /^awaited$/);
});

finish();
