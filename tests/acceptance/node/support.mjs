// Shared by the drives: named steps, and waiting for a state the way the clients do, by asking.
import assert from "node:assert/strict";

// Both clients pause a random number of seconds between questions, and take Math.random when they are loaded.
Math.random = () => 0;

export { assert };

const done = [];

export async function step(name, run) {
  try {
    await run();
  } catch (error) {
    console.error(`step "${name}"`);
    throw error;
  }
  done.push(name);
}

export function finish() {
  console.log(JSON.stringify(done));
}

export async function until(read, accept) {
  for (;;) {
    const value = await read();
    if (accept(value)) return value;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export async function fails(promise, name, message) {
  const error = await promise.then(
    (value) => assert.fail(`no error but ${JSON.stringify(value)}`),
    (error) => error,
  );
  assert.equal(error.constructor.name, name, error.message);
  assert.match(error.message, message);
}

export const UNKNOWN = "0190a0c4-7d5e-7cc2-8c1f-3a5be1f0c9d4";
