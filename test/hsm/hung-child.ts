/** A process whose HSM hangs while it stops: hung-child.ts FOLDER opening|working. */
import { setTimeout as delay } from 'node:timers/promises';
import { endSoon } from '../../src/main/exit.ts';
import { Orders } from './cryptoki-hook.ts';
import { ROOT, tokenIn } from './token-fixture.ts';

const HOOK = new URL('./cryptoki-hook.ts', import.meta.url).href;

const [folder = '', when] = process.argv.slice(2);
const fixture = await tokenIn(folder, false);
const orders = new Orders();
const hsm = await fixture.open({ hook: { url: HOOK, data: orders.memory }, deadlineMs: 200 });
await hsm.useRoot(ROOT);
if (when === 'opening') {
  orders.hang('C_OpenSession', 120_000);
  orders.fail('C_Sign', 0xb3);
  const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
  void hsm.generate(spec, { custody: 'hsm-wrapped' }).catch(() => undefined);
} else {
  orders.hang('C_GenerateRandom', 120_000);
  void hsm.random(8).catch(() => undefined);
}
await delay(500);
process.on('SIGTERM', () => undefined);
await hsm.close();
process.stdout.write('stopped\n');
endSoon(200);
