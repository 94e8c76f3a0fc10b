// Drives @defer/client 1.15.0, as it was published, against the server of DEFER_ENDPOINT.
import { UNKNOWN, assert, fails, finish, step, until } from "./support.mjs";

const client = await import("defer-client-1");
const { assignOptions, defer } = client;

const hello = defer(async function hello() {});
const broken = defer(async function broken() {});
const sleepy = defer(async function sleepy() {});
const missing = defer(async function missing() {});
const later = (fn) => assignOptions(fn, { delay: "1h" });
const reach = (id, ...states) =>
  until(() => client.getExecution(id), (execution) => states.includes(execution.state));

await step("enqueue", async () => {
  assert.match((await hello("world")).id, /^[0-9a-f-]{36}$/);
  await fails(missing(), "APIError", /^cannot find function "missing"$/);
});

await step("delay", async () => {
  const { id } = await client.delay(hello, "1h")();
  assert.deepEqual(await client.getExecution(id), { id, state: "created", result: null });
  const dated = assignOptions(hello, { delay: new Date(Date.now() + 3600_000), discardAfter: "2h" });
  assert.equal((await client.getExecution((await dated()).id)).state, "created");
  assert.ok((await client.discardAfter(later(hello), new Date(Date.now() + 3600_000))()).id);
});

await step("metadata", async () => {
  assert.ok((await client.addMetadata(hello, { user: "7" })()).id);
  await fails(assignOptions(hello, { metadata: { user: "\n" } })(), "APIError", /^metadata: /);
});

await step("getExecution", async () => {
  const { id } = await hello("got", { deep: [1] });
  assert.deepEqual(await reach(id, "succeed"), { id, state: "succeed", result: ["got", { deep: [1] }] });
  const bad = await broken("no such company");
  assert.equal((await reach(bad.id, "failed")).result.message, "no such company");
  await fails(client.getExecution(UNKNOWN), "APIError", /cannot find execution/);
  await fails(client.getExecution("nonsense"), "APIError", /malformed id/);
});

await step("cancel", async () => {
  const { id } = await later(hello)();
  assert.equal((await client.cancelExecution(id)).id, id);
  assert.equal((await client.getExecution(id)).state, "cancelled");
  await fails(client.cancelExecution(id), "APIError", /cannot cancel execution in "cancelled" state/);
});

await step("abort", async () => {
  const { id } = await sleepy();
  await reach(id, "started");
  assert.equal((await client.cancelExecution(id, true)).id, id);
  await reach(id, "aborted");
});

await step("reschedule", async () => {
  const { id } = await later(hello)("moved");
  assert.equal((await client.rescheduleExecution(id, "3 hours")).id, id);
  assert.equal((await client.rescheduleExecution(id, new Date(Date.now() + 7200_000))).id, id);
  assert.equal((await client.rescheduleExecution(id)).id, id);
  await reach(id, "succeed");
  await fails(client.rescheduleExecution(id), "APIError", /"succeed" state/);
});

await step("tries", async () => {
  const { id } = await hello();
  await reach(id, "succeed");
  assert.deepEqual(await client.getExecutionTries(id), [{ id, state: "succeed" }]);
  await fails(client.getExecutionTries(UNKNOWN), "APIError", /cannot find execution/);
});

await step("awaitResult", async () => {
  assert.deepEqual(await client.awaitResult(hello)("awaited"), ["awaited"]);
  await fails(client.awaitResult(broken)("awaited"), "DeferError", /^awaited$/);
});

finish();
