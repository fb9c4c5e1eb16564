/** The thread that validates policies, with real ones. */
import { afterEach, expect, it } from '@jest/globals';
import { PolicyInvalid } from '../../src/access/policy-error.ts';
import { ValidationThread } from '../../src/access/validation-thread.ts';
import { TwofoldError } from '../../src/errors.ts';
import { eventually } from '../store/eventually.ts';

const GOOD = 'permit (principal, action, resource);';
/** Threads that do nothing, and that end at once. */
const SILENT = new URL('data:text/javascript,setInterval(() => undefined, 1000)');
/** One that says of every policy what it became with the first. */
const TRAPPING = new URL(
  'data:text/javascript,import { parentPort } from "node:worker_threads"; let broken = false;' +
    'parentPort.on("message", ({ id }) => { broken ||= id === "trap";' +
    'parentPort.postMessage(broken ? { error: "memory access out of bounds" } : { complaints: [] }); });',
);
const DEAD = new URL('data:text/javascript,process.exit(3)');

let thread: ValidationThread | undefined;
afterEach(() => thread?.close());
const open = (options: ConstructorParameters<typeof ValidationThread>[0] = {}) =>
  (thread = new ValidationThread(options));
const codeOf = async (validated: Promise<void>): Promise<unknown> => {
  try {
    await validated;
    return 'valid';
  } catch (error) {
    return error instanceof TwofoldError ? error.code : error;
  }
};

it('says what is said here, each complaint in its place, while this thread goes on', async () => {
  const validation = open();
  let turns = 0;
  const turning = setInterval(() => (turns += 1), 5);
  expect(await codeOf(validation.validate(GOOD, 'p'))).toBe('valid');
  clearInterval(turning);
  // The thread's start and Cedar's first validation take far longer than a few turns.
  expect(turns).toBeGreaterThan(5);
  const wrong = `@limit("fast")\n${GOOD}`;
  const refused = await validation.validate(wrong, 'p').catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(PolicyInvalid);
  expect((refused as PolicyInvalid).complaints).toMatchObject([{ line: 1, column: 1 }]);
  const unknown = 'permit (principal, action == Action::"nothing", resource);';
  expect(await codeOf(validation.validate(unknown, 'p'))).toBe('policy_invalid');
});

it('takes so many and no more, ends when it is idle, and comes back', async () => {
  const validation = open({ waiting: 2, idleMs: 50 });
  const asked = Array.from({ length: 5 }, () => codeOf(validation.validate(GOOD, 'p')));
  // One runs, two wait.
  expect((await Promise.all(asked)).sort()).toEqual([
    'rate_limited',
    'rate_limited',
    'valid',
    'valid',
    'valid',
  ]);
  await eventually(() => Promise.resolve(!validation.running));
  expect(await codeOf(validation.validate(GOOD, 'p'))).toBe('valid');
});

it('gives a policy up that takes too long', async () => {
  const validation = open({ deadlineMs: 50, entry: SILENT });
  const both = [validation.validate(GOOD, 'a'), validation.validate(GOOD, 'b')].map(codeOf);
  expect(await Promise.all(both)).toEqual(['policy_invalid', 'policy_invalid']);
});

it('ends a thread in which Cedar failed, and validates what waits in another', async () => {
  const validation = open({ entry: TRAPPING });
  const asked = ['fine', 'trap', 'waits'].map((id) => codeOf(validation.validate(GOOD, id)));
  expect(await Promise.all(asked)).toEqual(['valid', 'internal', 'valid']);
  expect(await codeOf(validation.validate(GOOD, 'later'))).toBe('valid');
});

it('fails what runs when its thread dies, and what waits or comes when it is closed', async () => {
  const dead = new ValidationThread({ entry: DEAD });
  expect(await codeOf(dead.validate(GOOD, 'p'))).toBe('internal');
  await dead.close();
  const validation = open({ entry: SILENT });
  const asked = [validation.validate(GOOD, 'a'), validation.validate(GOOD, 'b')].map(codeOf);
  await validation.close();
  asked.push(codeOf(validation.validate(GOOD, 'c')));
  expect(await Promise.all(asked)).toEqual(['shutting_down', 'shutting_down', 'shutting_down']);
});
