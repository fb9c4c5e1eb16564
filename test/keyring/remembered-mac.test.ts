import { createHmac } from 'node:crypto';
import { expect, it } from '@jest/globals';
import { rememberedMac } from '../../src/keyring/remembered-mac.ts';

it('asks once for the same bytes, keeps the last used, and never answers for other bytes', async () => {
  const asked: string[] = [];
  const real = (data: Uint8Array) => createHmac('sha256', 'k').update(data).digest();
  const mac = rememberedMac((data) => {
    asked.push(Buffer.from(data).toString());
    return Promise.resolve(real(data));
  }, 2);
  for (const text of ['a', 'b', 'a', 'c', 'a', 'b']) {
    const data = Buffer.from(text);
    expect(await mac(data)).toEqual(real(data));
  }
  expect(asked).toEqual(['a', 'b', 'c', 'b']);
});
