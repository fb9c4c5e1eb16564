/** What a worker's call had in memory is gone when it ends, however it ends. */
import { expect, it } from '@jest/globals';

import type { Connection } from '../../src/hsm/connection.ts';
import { decryptItems, encryptItems } from '../../src/hsm/gcm-items.ts';
import { joinParts } from '../../src/hsm/items.ts';

const KEY = Buffer.alloc(8);
const SECRET = Buffer.from('thirty-two bytes of a data key..');

/** Copies instead of a cipher: where the secret is in the clear is what matters here. */
const token = (seen: Buffer[], fails: boolean): Connection => {
  const through = (_session: unknown, input: Buffer, room: Buffer) => {
    seen.push(input, room);
    const written = input.copy(room);
    if (fails) throw new Error('the token fails');
    return room.subarray(0, written);
  };
  const cryptoki = {
    C_EncryptInit: () => undefined,
    C_DecryptInit: () => undefined,
    C_Encrypt: through,
    C_Decrypt: through,
    C_GenerateRandom: (_session: unknown, room: Buffer) => room,
  };
  return {
    run: (call: (session: unknown, on: unknown) => unknown) => call(null, cryptoki),
  } as unknown as Connection;
};
const sealing = joinParts([SECRET, Buffer.from('context'), SECRET, Buffer.alloc(0)]);
const opening = joinParts([Buffer.alloc(12), SECRET, Buffer.from('context')]);

it.each([false, true])('where the token fails: %s', (fails) => {
  for (const call of [
    (on: Connection) => encryptItems(on, KEY, sealing),
    (on: Connection) => decryptItems(on, KEY, Buffer.alloc(0), opening),
  ]) {
    const seen: Buffer[] = [];
    const ended = () => call(token(seen, fails));
    if (fails) expect(ended).toThrow();
    else expect(Buffer.from(ended()).includes(SECRET)).toBe(true);
    expect(seen.length).toBeGreaterThan(0);
    for (const bytes of seen) expect(bytes.every((byte) => byte === 0)).toBe(true);
  }
});
