/** What the settings of the audit log take, and what they refuse. */
import { join } from 'node:path';
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

describe('audit.sinks', () => {
  const sinks = (value: unknown, environment: Record<string, string> = {}) =>
    check({ ...environment, TWOFOLD_AUDIT_SINKS: json(value) });
  const file = { type: 'file', name: 'here', path: '/f' };
  const http = { type: 'http', name: 'lake', url: 'https://h.example/in' };
  const otlp = { type: 'otlp', name: 'otel', url: 'https://h.example/v1/logs' };
  const syslog = { type: 'syslog', name: 'siem', host: 'h.example' };

  it('are of four types, with what is not told', () => {
    const from = 'start';
    expect(sinks([file, http, otlp, syslog])).toMatchObject({
      sinks: [
        { ...file, rotateBytes: 134_217_728, keep: 16 },
        { ...http, from },
        { ...otlp, from },
        { ...syslog, from, port: 6_514, facility: 13 },
      ],
    });
    expect(check({})).toMatchObject({ sinks: [] });
  });

  it.each([
    ['another type', { ...file, type: 'kafka' }],
    ['no type', { name: 'here', path: '/f' }],
    ['a key that no sink has', { ...file, more: 1 }],
    ['a key of another type', { ...file, url: 'https://h.example/' }],
    ['where to begin, for a file', { ...file, from: 'now' }],
    ['a signature that otlp has not', { ...otlp, hmacKeyFile: '/k' }],
    ['no path', { type: 'file', name: 'here' }],
    ['a file that turns too soon', { ...file, rotateBytes: 1_048_575 }],
    ['no full file that stays', { ...file, keep: 0 }],
    ['a name in capitals', { ...file, name: 'Here' }],
    ['a long name', { ...file, name: 'a'.repeat(33) }],
    ['another beginning', { ...http, from: 'yesterday' }],
    ['a file as URL', { ...http, url: 'file:///f' }],
    ['a certificate without its key', { ...syslog, certificateFile: '/c' }],
    ['a port that is none', { ...syslog, port: 65_536 }],
    ['a facility that is none', { ...syslog, facility: 24 }],
  ])('refuse %s', (_, sink) => {
    const [place, ...others] = sinks([sink]) as string[];
    expect(place).toMatch(/^audit\.sinks\.0/u);
    expect(others).toEqual([]);
  });

  it('have each a name of its own, whatever their types', () => {
    expect(sinks([file, http, { ...syslog, name: 'here' }])).toEqual(['audit.sinks.2.name']);
  });

  it('have each a file of its own', () => {
    expect(sinks([file, http, { ...file, name: 'other', path: '/./f' }])).toEqual([
      'audit.sinks.2.path',
    ]);
  });

  it('have their files where the working folder was', () => {
    const checked = sinks([{ ...file, path: 'f' }]);
    expect(checked).toMatchObject({ sinks: [{ path: join(process.cwd(), 'f') }] });
  });

  it('name files that are not there, before anything is sent', () => {
    const caFile = '/none/ca.pem';
    const wrong = [
      { ...http, caFile, tokenFile: '/none/token', hmacKeyFile: '/none/key' },
      { ...syslog, caFile, certificateFile: '/none/own.pem', keyFile: '/none/own.key' },
    ];
    expect((sinks(wrong) as string[]).toSorted()).toEqual([
      'audit.sinks.0.caFile',
      'audit.sinks.0.hmacKeyFile',
      'audit.sinks.0.tokenFile',
      'audit.sinks.1.caFile',
      'audit.sinks.1.certificateFile',
      'audit.sinks.1.keyFile',
    ]);
  });

  it('are at most 16', () => {
    const many = Array.from({ length: 17 }, (_, at) => ({
      ...file,
      ...{ name: `f${at}`, path: `/f${at}` },
    }));
    expect(sinks(many.slice(1))).toMatchObject({ sinks: { length: 16 } });
    expect(sinks(many)).toHaveLength(1);
  });

  it('take http for a loopback address in development, and nowhere else', () => {
    const local = { ...http, url: 'http://127.0.0.1:8080/in' };
    const away = { ...otlp, url: 'http://h.example/v1/logs' };
    expect(sinks([local])).toMatchObject({ sinks: [local] });
    expect(sinks([local, away])).toEqual(['audit.sinks.1.url']);
    expect(sinks([local, away], { TWOFOLD_MODE: 'production' })).toEqual(
      expect.arrayContaining(['audit.sinks.0.url', 'audit.sinks.1.url']),
    );
  });

  it('show no secret of a URL', () => {
    const secret = { ...http, url: 'https://user:secret@h.example/in?token=secret' };
    const checked = checkConfig({
      environment: { TWOFOLD_MODE: 'dev', TWOFOLD_AUDIT_SINKS: json([secret]) },
    });
    expect(checked.ok).toBe(true);
    if (checked.ok) expect(json(presentConfig(checked.config))).not.toContain('secret');
  });
});
