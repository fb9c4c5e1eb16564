/** Wycheproof's AES key wrap with padding (RFC 5649, C2SP) by the token, which wraps the service's keys. */
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { KeyType, ObjectClass } from 'graphene-pk11';
import type { Connection } from '../../src/hsm/connection.ts';
import { CKA, CKR, returnValueOf } from '../../src/hsm/cryptoki.ts';
import { wrapMechanism } from '../../src/hsm/roots.ts';
import { attributes } from '../../src/hsm/templates.ts';
import { hex, toHex } from '../crypto/software-halves.ts';
import { each } from '../vectors/wycheproof-cases.ts';
import { groupsOf } from '../vectors/wycheproof.ts';
import { withConnection } from './import-keys.ts';
import { makeToken } from './token-fixture.ts';
import type { TokenFixture } from './token-fixture.ts';

let fixture: TokenFixture;
beforeAll(async () => {
  fixture = await makeToken();
});
afterAll(() => {
  fixture.remove();
});

/** How SoftHSM refuses them. */
const REFUSALS = [CKR.GENERAL_ERROR, CKR.WRAPPED_KEY_LEN_RANGE];
const SESSION = { private: false, sensitive: false, extractable: true, token: false } as const;

/** Unwraps a blob as a generic secret, and wraps that again. */
function unwrapAndWrap(connection: Connection, key: Uint8Array, blob: Uint8Array) {
  const mechanism = { mechanism: wrapMechanism(connection) };
  return connection.run((session, cryptoki) => {
    const wrapping = cryptoki.C_CreateObject(session, [
      ...attributes({
        ...{ class: ObjectClass.SECRET_KEY, keyType: KeyType.AES, wrap: true, unwrap: true },
        ...SESSION,
      }),
      { type: CKA.VALUE, value: Buffer.from(key) },
    ]);
    try {
      const template = attributes({
        ...{ class: ObjectClass.SECRET_KEY, keyType: KeyType.GENERIC_SECRET, ...SESSION },
      });
      const secret = cryptoki.C_UnwrapKey(
        session,
        mechanism,
        wrapping,
        Buffer.from(blob),
        template,
      );
      const [value] = cryptoki.C_GetAttributeValue(session, secret, [{ type: CKA.VALUE }]);
      const again = cryptoki.C_WrapKey(session, mechanism, wrapping, secret, Buffer.alloc(4096));
      cryptoki.C_DestroyObject(session, secret);
      return { value: toHex(value?.value as Uint8Array), again: toHex(again) };
    } finally {
      cryptoki.C_DestroyObject(session, wrapping);
    }
  });
}

it('AES key wrap with padding: damaged blobs are refused, right ones come back as they were', async () => {
  // The root is a key of 256 bits.
  const groups = groupsOf('aes_kwp').filter(({ keySize }) => keySize === 256);
  const cases = groups.flatMap(({ tests }) => tests);
  const outcomes = await withConnection(fixture, (connection) =>
    cases.map(({ key = '', ct = '' }) => {
      try {
        return unwrapAndWrap(connection, hex(key), hex(ct));
      } catch (error) {
        return returnValueOf(error);
      }
    }),
  );
  await each('aes_kwp', (test, { keySize }) => {
    if (keySize !== 256) return undefined;
    const outcome = outcomes[cases.findIndex(({ tcId }) => tcId === test['tcId'])];
    const { msg = '', ct = '' } = test;
    if (typeof outcome !== 'object') {
      expect(REFUSALS).toContain(outcome);
      return false;
    }
    // SoftHSM wraps a secret of another length as if zeros of it filled its last 8 bytes.
    if (msg.length % 16 === 0) expect(outcome.again).toBe(ct);
    return outcome.value === msg;
  });
});
