/**
 * A second process on one token: opens its own pool, makes keys and prints what it made, one JSON
 * line each; bytes in hex. `forever` goes on making token keys until it is killed.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { OBJECT_ID_BYTES, uuidBytes } from '../../src/hsm/inputs.ts';
import type { HsmMaterial } from '../../src/hsm/port.ts';
import { ROOT, tokenIn } from './token-fixture.ts';

const [folder = '', mode = 'once'] = process.argv.slice(2);
const hsm = await (await tokenIn(folder, false)).open({ stateDir: `${folder}/second` });
await hsm.useRoot(ROOT);

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

function print(material: HsmMaterial): void {
  const plain = Object.entries(material).map(([name, value]: [string, unknown]) => [
    name,
    value instanceof Uint8Array ? hex(value) : value,
  ]);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(plain))}\n`);
}

async function tokenKey(): Promise<HsmMaterial> {
  const objectId = randomBytes(OBJECT_ID_BYTES);
  uuidBytes(ROOT.installation).copy(objectId);
  return hsm.generate({ kind: 'x25519', use: 'derive' }, { custody: 'hsm-token', objectId });
}

if (mode === 'forever') for (;;) print(await tokenKey());

const spec = { kind: 'hmac', hash: 'SHA-256', bytes: 32 } as const;
const material = await hsm.generate(spec, { custody: 'hsm-wrapped' });
print(material);
print(await tokenKey());
const key = { id: randomUUID(), spec, material };
const macs = await Promise.all(
  Array.from({ length: 800 }, (_, index) => hsm.mac(key, Buffer.from(`${index % 10}`))),
);
process.stdout.write(`${JSON.stringify({ macs: macs.slice(0, 10).map(hex) })}\n`);
await hsm.close();
