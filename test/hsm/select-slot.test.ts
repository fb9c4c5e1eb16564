import { afterEach, describe, expect, it } from '@jest/globals';
import { selectSlot } from '../../src/hsm/connection.ts';
import { CKR } from '../../src/hsm/cryptoki.ts';
import type { Cryptoki, Handle } from '../../src/hsm/cryptoki.ts';
import { withToken } from './import-keys.ts';
import { makeToken } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

let fixture: TokenFixture | undefined;

afterEach(() => {
  fixture?.remove();
  fixture = undefined;
});

/** Slots other than `mine` hold tokens that cannot be read. */
function spoilOthers(cryptoki: Cryptoki, mine: string): void {
  const read = cryptoki.C_GetTokenInfo.bind(cryptoki);
  const value = (slot: Handle) => {
    const info = read(slot);
    if (info.label.trim() === mine) return info;
    throw Object.assign(new Error('injected'), { code: CKR.TOKEN_NOT_RECOGNIZED });
  };
  Object.defineProperty(cryptoki, 'C_GetTokenInfo', { value, configurable: true });
}

describe('selecting a slot', () => {
  it('passes over slots whose token cannot be read', async () => {
    fixture = await makeToken();
    const { tokenLabel: label } = fixture.token;
    await withToken(fixture, ({ cryptoki, serial }) => {
      expect(cryptoki.C_GetSlotList(true).length).toBeGreaterThan(1);
      spoilOthers(cryptoki, label);
      expect(selectSlot(cryptoki, { label }).getToken().serialNumber.trim()).toBe(serial);
      expect(() => selectSlot(cryptoki, { label: 'another' })).toThrow();
    });
  });
});
