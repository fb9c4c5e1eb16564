/** Advances a witness's state as fast as it can, and says each size once it would answer; to be killed. */
import { createHash } from 'node:crypto';
import { WitnessStates } from '../../src/audit/witness/state.ts';

const states = new WitnessStates(process.argv[2] ?? '');
await states.open();
const origin = 'log.example/child';
const rootOf = (size: number) => createHash('sha256').update(String(size)).digest();

for (;;) {
  const state = await states.of(origin);
  const size = state.size + 1;
  if (!(await states.advance(state, { origin, size, root: rootOf(size) }))) throw new Error('lost');
  process.send?.(size);
}
