/** Spends of one limit what it may, writes down each request that it lets through, and stops for nothing. */
import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Limiter } from '../../src/limits/limiter.ts';
import { quotaOf, rateOf } from '../../src/limits/rate.ts';
import { openStore } from '../../src/store/store.ts';

const [, , url = '', file = '', bucket = '', burst = '0', kind = 'rate'] = process.argv;
const store = openStore({ url });
const limiter = new Limiter({ store: store.limits });
const rate = kind === 'quota' ? quotaOf(Number(burst)) : rateOf(60, Number(burst));
const limit = { name: 'n', bucket, owner: '', rate };
for (;;) {
  if (limiter.charge([limit], 1).refused === null) appendFileSync(file, '.');
  // Some in one turn of the loop, so that it is killed between allowance and use.
  if (Math.random() < 0.2) await sleep(1);
}
