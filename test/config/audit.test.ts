/** What the settings of the audit log take, and what they refuse. */
import { describe, expect, it } from '@jest/globals';
import { checkConfig, presentConfig } from '../../src/config.ts';
import { formatVkey, makeVkey } from '../../src/audit/tree/vkey.ts';

const check = (environment: Record<string, string>) => {
  const checked = checkConfig({ environment: { TWOFOLD_MODE: 'dev', ...environment } });
  return checked.ok ? checked.config.audit : checked.problems.map(({ where }) => where);
};
const ed25519 = formatVkey(makeVkey('log.example/a', 0x01, new Uint8Array(32).fill(1)));
const mlDsa = formatVkey(makeVkey('log.example/a', 0x06, new Uint8Array(1312)));
const other = formatVkey(makeVkey('log.example/b', 0x01, new Uint8Array(32)));
const json = JSON.stringify;

describe('audit.origin', () => {
  it('is a URL without its schema', () => {
    expect(check({ TWOFOLD_AUDIT_ORIGIN: 'log.example/a' })).toMatchObject({
      origin: 'log.example/a',
    });
    for (const wrong of ['https://log.example', 'a b', 'a+b', 'a\tb', 'x'.repeat(256)]) {
      expect([wrong, check({ TWOFOLD_AUDIT_ORIGIN: wrong })]).toEqual([
        wrong,
        ['TWOFOLD_AUDIT_ORIGIN'],
      ]);
    }
  });
});

describe('lists of the audit log', () => {
  it.each([
    ['PUBLISH_TO', [{ folder: '/f' }, { url: 'https://h/o?sig=1', method: 'PUT' }], []],
    ['PUBLISH_TO', [{}], ['audit.publishTo.0']],
    ['PUBLISH_TO', [{ folder: '/f', url: 'https://h/' }], ['audit.publishTo.0']],
    ['PUBLISH_TO', [{ folder: '/f', method: 'POST' }], ['audit.publishTo.0']],
    ['PUBLISH_TO', [{ url: 'http://elsewhere.example/' }], ['audit.publishTo.0.url']],
    ['PUBLISH_TO', [{ url: 'ftp://h/' }], ['audit.publishTo.0']],
    ['PUBLISH_TO', [{ folder: '/f', more: 1 }], ['audit.publishTo.0']],
    ['WITNESSES', [{ url: 'https://w.example/', vkeys: [ed25519] }], []],
    ['WITNESSES', [{ url: 'https://w.example/', vkeys: [] }], ['audit.witnesses.0']],
    ['WITNESSES', [{ url: 'https://w.example/', vkeys: ['x'] }], ['audit.witnesses.0']],
    ['WITNESSES', [{ url: 'http://w.example/', vkeys: [other] }], ['audit.witnesses.0.url']],
    ['WITNESS_LOGS', [{ vkeys: [ed25519, mlDsa] }], []],
    ['WITNESS_LOGS', [{ vkeys: [ed25519, other] }], ['audit.witness.logs.0']],
    ['WITNESS_LOGS', [{ vkeys: [mlDsa] }], ['audit.witness.logs.0']],
  ])('%s, case %#', (name, value, problems) => {
    const named = name === 'WITNESS_LOGS' ? { TWOFOLD_AUDIT_WITNESS_NAME: 'w.example' } : {};
    const found = check({ ...named, [`TWOFOLD_AUDIT_${name}`]: json(value) });
    const places = Array.isArray(found) ? found : [];
    // A list is one setting: where in it a fault lies stands after its name.
    expect(problems.every((each) => places.some((place) => place.startsWith(each)))).toBe(true);
    expect(places.length > 0).toBe(problems.length > 0);
  });

  it('show no signature of a presigned URL', () => {
    const publishTo = [{ url: 'https://user:secret@h.example/o?X-Amz-Signature=secret' }];
    const checked = checkConfig({
      environment: { TWOFOLD_MODE: 'dev', TWOFOLD_AUDIT_PUBLISH_TO: json(publishTo) },
    });
    expect(checked.ok).toBe(true);
    if (checked.ok) expect(json(presentConfig(checked.config))).not.toContain('secret');
  });
});

describe('audit.acceptRollback', () => {
  const accept = (checkpoints: unknown, reason?: string) =>
    check({
      TWOFOLD_AUDIT_ACCEPT_ROLLBACK_CHECKPOINTS: json(checkpoints),
      ...(reason === undefined ? {} : { TWOFOLD_AUDIT_ACCEPT_ROLLBACK_REASON: reason }),
    });

  it('names checkpoints and a reason, both', () => {
    expect(accept(['a'.repeat(64)], 'r')).toMatchObject({ acceptRollback: { reason: 'r' } });
    for (const wrong of [[], ['*'], ['A'.repeat(64)], [`${'a'.repeat(64)}a`]]) {
      expect(accept(wrong, 'r')).toHaveLength(1);
    }
    expect(accept(['a'.repeat(64)])).toHaveLength(1);
  });
});
