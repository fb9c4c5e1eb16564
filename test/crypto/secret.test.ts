import { format, inspect } from 'node:util';

import { describe, expect, it } from '@jest/globals';

import { SecretBytes, wipe } from '../../src/crypto/secret.ts';
import { hex } from './software-halves.ts';

const marker = '5ec2e75ec2e75ec2e7';
const MARKERS = [marker, Buffer.from(marker, 'hex').toString('base64'), '94, 194, 231'];

describe('SecretBytes', () => {
  it('shows nothing of its bytes in any printed form', () => {
    const secret = SecretBytes.own(hex(marker));
    const printed = [
      String(secret),
      JSON.stringify({ secret }),
      inspect(secret, { showHidden: true, depth: 9 }),
      format('%s %o %O %j', secret, secret, secret, secret),
      JSON.stringify(Object.entries(secret)),
      JSON.stringify(Object.assign({}, secret)),
    ].join('\n');
    for (const text of MARKERS) expect(printed).not.toContain(text);
    expect(printed).toContain('[secret]');
  });

  it('does not travel by structured clone', () => {
    const clone: unknown = structuredClone(SecretBytes.own(hex(marker)));
    expect(inspect(clone, { showHidden: true })).not.toContain('94');
  });

  it('is zero and unreadable after a wipe, also by dispose', () => {
    const bytes = [hex(marker), hex(marker)];
    const [first, second] = bytes.map((owned) => SecretBytes.own(owned));
    expect(first?.length).toBe(9);
    first?.wipe();
    second?.[Symbol.dispose]();
    expect(bytes).toEqual([new Uint8Array(9), new Uint8Array(9)]);
    expect(() => first?.reveal()).toThrow();
    expect(() => second?.length).toThrow();
    expect(() => first?.wipe()).not.toThrow();
  });

  it('copies when asked to, so that the source stays its owner’s', () => {
    const source = hex(marker);
    const secret = SecretBytes.copyOf(source);
    secret.wipe();
    expect(source).toEqual(hex(marker));
  });

  it('wipe takes buffers, secrets and undefined', () => {
    const [buffer, owned] = [hex(marker), hex(marker)];
    wipe(buffer, SecretBytes.own(owned), undefined);
    expect([buffer, owned]).toEqual([new Uint8Array(9), new Uint8Array(9)]);
  });
});
