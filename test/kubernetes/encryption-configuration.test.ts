/** EncryptionConfiguration: read strictly, and written so that what is in etcd stays readable. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from '@jest/globals';

import {
  entryFor,
  parseEncryptionConfiguration,
  writeEncryptionConfiguration,
} from '../../src/kubernetes/encryption-configuration.ts';
import { kmsPluginCommand } from '../../src/main/kms-plugin-command.ts';

const SECRET = Buffer.from('secret is secure, or may be it is'.slice(0, 32)).toString('base64');
const AESCBC = `apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
  - resources: [secrets]
    providers:
      - aescbc:
          keys:
            - name: key1
              secret: ${SECRET}
      - identity: {}
`;
const wanted = {
  name: 'twofold',
  socket: '/run/twofold-kms/kms.sock',
  resources: ['secrets'],
  before: null,
  readOnly: false,
};
const kinds = (text: string) =>
  parseEncryptionConfiguration(text).entries.map(({ resources, providers }) => [
    resources.join(),
    ...providers.map(({ kind }) => kind),
  ]);

describe('a written configuration', () => {
  it('has the provider first, and reads what is in the clear', () => {
    const text = writeEncryptionConfiguration(wanted);
    expect(parseEncryptionConfiguration(text).entries).toEqual([
      {
        resources: ['secrets'],
        providers: [
          {
            kind: 'kms',
            apiVersion: 'v2',
            name: 'twofold',
            endpoint: 'unix:///run/twofold-kms/kms.sock',
            timeoutMs: 3_000,
          },
          { kind: 'identity' },
        ],
      },
    ]);
  });

  it('keeps the former providers behind it with their keys, and is the same when made twice', () => {
    const once = writeEncryptionConfiguration({ ...wanted, before: AESCBC });
    expect(kinds(once)).toEqual([['secrets', 'kms', 'aescbc', 'identity']]);
    expect(once).toContain(SECRET);
    expect(writeEncryptionConfiguration({ ...wanted, before: once })).toBe(once);
  });

  it('only reads with the provider at first, where there are several API servers', () => {
    const first = writeEncryptionConfiguration({ ...wanted, before: AESCBC, readOnly: true });
    expect(kinds(first)).toEqual([['secrets', 'aescbc', 'kms', 'identity']]);
    const then = writeEncryptionConfiguration({ ...wanted, before: first });
    expect(kinds(then)).toEqual([['secrets', 'kms', 'aescbc', 'identity']]);
  });

  it('leaves entries of other resources, and splits none', () => {
    const other = AESCBC.replace('[secrets]', '[configmaps]');
    const text = writeEncryptionConfiguration({ ...wanted, before: other });
    expect(kinds(text)).toEqual([
      ['configmaps', 'aescbc', 'identity'],
      ['secrets', 'kms', 'identity'],
    ]);
    const both = AESCBC.replace('[secrets]', '[secrets, configmaps]');
    expect(() => writeEncryptionConfiguration({ ...wanted, before: both })).toThrow(
      /secrets, configmaps together/u,
    );
  });
});

describe('a written configuration, where an entry has more than the resource', () => {
  const everything = AESCBC.replace('[secrets]', "['*.*']");

  it('comes before a wildcard, which an API server would go by else, and reads what that wrote', () => {
    const text = writeEncryptionConfiguration({ ...wanted, before: everything });
    expect(kinds(text)).toEqual([
      ['secrets', 'kms', 'aescbc', 'identity'],
      ['*.*', 'aescbc', 'identity'],
    ]);
    const parsed = parseEncryptionConfiguration(text);
    expect(entryFor(parsed, 'secrets')).toBe(parsed.entries[0]);
    expect(writeEncryptionConfiguration({ ...wanted, before: text })).toBe(text);
  });

  it('takes resources of one entry at a time', () => {
    const before = `${AESCBC}  - resources: [configmaps]\n    providers: [identity: {}]\n`;
    const resources = ['secrets', 'configmaps'];
    expect(() => writeEncryptionConfiguration({ ...wanted, resources, before })).toThrow(
      /several entries/u,
    );
  });

  it('quotes what the parser of an API server takes for something else', () => {
    for (const name of ['on', 'no', 'y', '1_000']) {
      const before = AESCBC.replace('name: key1', `name: "${name}"`);
      expect(before).not.toBe(AESCBC);
      expect(writeEncryptionConfiguration({ ...wanted, before })).toContain(`name: "${name}"`);
    }
  });
});

/** As an API server has it: names of v2 are unique over all entries. */
describe('a name that would be there twice', () => {
  const kms = (name: string, version = 'v2') =>
    `      - kms: {apiVersion: ${version}, name: ${name}, endpoint: 'unix:///${name}'}\n`;
  const entry = (resource: string, ...providers: string[]) =>
    `  - resources: ['${resource}']\n    providers:\n${providers.join('')}`;
  const file = (...entries: string[]) =>
    `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n${entries.join('')}`;
  const twice = /kms provider \w+ is there twice/u;

  it('is refused over a wildcard with another plugin, which the new entry would read by as well', () => {
    const before = file(entry('*.*', kms('other')));
    expect(() => writeEncryptionConfiguration({ ...wanted, before })).toThrow(twice);
  });

  it('is refused where a second entry would get the provider', () => {
    const both = `${AESCBC}${entry('configmaps', '      - identity: {}\n')}`;
    const before = writeEncryptionConfiguration({ ...wanted, before: both });
    const resources = ['configmaps'];
    expect(() => writeEncryptionConfiguration({ ...wanted, before, resources })).toThrow(twice);
    const named = { ...wanted, before, resources, name: 'second', socket: '/run/second.sock' };
    expect(kinds(writeEncryptionConfiguration(named))).toHaveLength(2);
  });

  it('is refused where v1 has it: an API server that reads anew takes no name for both', () => {
    const before = file(entry('secrets', kms('twofold', 'v1')));
    expect(() => writeEncryptionConfiguration({ ...wanted, before })).toThrow(/is there as v1/u);
    expect(kinds(writeEncryptionConfiguration({ ...wanted, before, name: 'new' }))).toHaveLength(1);
  });

  it.each<[string, string, boolean]>([
    ['in one entry', file(entry('secrets', kms('a'), kms('a'))), true],
    ['in two', file(entry('secrets', kms('a')), entry('configmaps', kms('a'))), true],
    ['of v1 before v2', file(entry('secrets', kms('a', 'v1'), kms('a'))), true],
    ['of v2 before v1', file(entry('secrets', kms('a'), kms('a', 'v1'))), false],
    ['of v1 alone', file(entry('secrets', kms('a', 'v1'), kms('a', 'v1'))), false],
  ])('is read as an API server reads it, %s', (_where, text, refused) => {
    const read = () => parseEncryptionConfiguration(text);
    if (refused) expect(read).toThrow(twice);
    else expect(read().entries).toHaveLength(1);
  });
});

/** The cases of k8s.io/apiserver's own tests of what it takes, and of entries that mask others. */
describe('resources', () => {
  const read = (...lists: string[]) =>
    parseEncryptionConfiguration(
      `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n${lists
        .map((list) => `  - {resources: [${list}], providers: [{identity: {}}]}\n`)
        .join('')}`,
    );

  it.each<string[]>([
    ['secrets, configmaps'],
    ["'*.apps', secrets"],
    ["'*.', deployments.apps"],
    ["'*.', '*.apps'"],
    ["'*.*'"],
    ['secrets', "'*.'", "'*.*'"],
    ['secrets', 'secrets'],
    ['deployments.apps', "'*.apps'", 'secrets'],
    ['events'],
    ['myevents.events.example'],
  ])('are taken: %s', (...lists) => {
    expect(read(...lists).entries).toHaveLength(lists.length);
  });

  it.each<string[]>([
    ['secrets, secrets'],
    ["secrets, '*.'"],
    ["'*.', secrets"],
    ["'*.*', secrets"],
    ["secrets, '*.*'"],
    ["'*.*', '*.apps'"],
    ["deployments.apps, '*.apps'"],
    ["'*.apps', '*.apps'"],
    ['Secrets'],
    ["'*'"],
    ['serviceipallocations'],
    ['servicenodeportallocations'],
    ['apiserveripinfo'],
    ['events.events.k8s.io'],
    ["'*.events.k8s.io'"],
    ['x.extensions'],
    ["'*.extensions'"],
    ["'secrets.*'"],
    ["'*.'", 'secrets'],
    ["'*.*'", 'secrets'],
    ["'*.*'", "'*.apps'"],
    ["'*.apps'", 'deployments.apps'],
    ["'*.apps'", "'*.apps'"],
  ])('are refused: %s', (...lists) => {
    expect(() => read(...lists)).toThrow(expect.objectContaining({ code: 'invalid_value' }));
  });

  it.each<[string, boolean]>([
    [randomBytes(16).toString('base64'), true],
    [randomBytes(24).toString('base64'), true],
    [randomBytes(32).toString('base64'), true],
    [randomBytes(28).toString('base64'), false],
    [randomBytes(32).toString('base64').replace('=', ''), false],
    [randomBytes(32).fill(0xff).toString('base64url'), false],
    ['====', false],
  ])('are under a local key %s: %s', (secret, taken) => {
    const reading = () => parseEncryptionConfiguration(AESCBC.replace(SECRET, secret));
    if (taken) expect(reading().entries).toHaveLength(1);
    else expect(reading).toThrow(expect.objectContaining({ code: 'invalid_value' }));
    const box = AESCBC.replace('aescbc', 'secretbox').replace(SECRET, secret);
    if (secret.length === 44 && taken) expect(parseEncryptionConfiguration(box)).toBeDefined();
    else expect(() => parseEncryptionConfiguration(box)).toThrow(/secret/u);
  });
});

describe('the last step', () => {
  const others = `${AESCBC}  - resources: [configmaps]\n    providers: [identity: {}]\n`;
  const step = (before: string, only = false) =>
    writeEncryptionConfiguration({ ...wanted, before, only });

  it('takes the former providers out of that entry alone', () => {
    const last = step(step(others), true);
    expect(kinds(last)).toEqual([
      ['secrets', 'kms'],
      ['configmaps', 'identity'],
    ]);
    expect(last).not.toContain(SECRET);
    expect(step(last, true)).toBe(last);
  });

  it('is not made before the provider writes', () => {
    const reading = writeEncryptionConfiguration({ ...wanted, before: others, readOnly: true });
    const wildcard = AESCBC.replace('[secrets]', "['*.*']");
    for (const before of [others, reading, wildcard]) {
      expect(() => step(before, true)).toThrow(/no provider goes yet/u);
    }
  });
});

describe('a configuration that is read', () => {
  it.each<[string, string]>([
    ['nothing', ''],
    ['a text', 'hello'],
    ['two documents', `${AESCBC}---\n${AESCBC}`],
    ['another kind', AESCBC.replace('EncryptionConfiguration', 'EncryptionConfig')],
    ['another version', AESCBC.replace('/v1', '/v1beta1')],
    ['an unknown field', AESCBC.replace('kind:', 'knid: x\nkind:')],
    ['a field twice', AESCBC.replace('kind:', 'kind: x\nkind:')],
    ['no entry', AESCBC.replace(/resources:\n[^]*/u, 'resources: []\n')],
    ['two providers in one', AESCBC.replace('      - identity', '        identity')],
    ['an unknown provider', AESCBC.replace('aescbc', 'rot13')],
    ['a key without its secret', AESCBC.replace(/\n +secret: .*/u, '')],
    [
      'a provider of v3',
      `${AESCBC}      - kms: {apiVersion: v3, name: a, endpoint: 'unix:///a'}\n`,
    ],
    [
      'a provider over TCP',
      `${AESCBC}      - kms: {apiVersion: v2, name: a, endpoint: 'tcp://a'}\n`,
    ],
    [
      'a cache of v2',
      `${AESCBC}      - kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 5}\n`,
    ],
    [
      'a strange time',
      `${AESCBC}      - kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', timeout: 3 s}\n`,
    ],
    ['many aliases', `a: &a [x]\nb: [${'*a,'.repeat(100)}]\n${AESCBC}`],
    ['a large file', `${AESCBC}#${'x'.repeat(300_000)}`],
  ])('with %s is refused, and no key is in what is said', (_name, text) => {
    let said = '';
    try {
      parseEncryptionConfiguration(text);
    } catch (error) {
      expect(error).toMatchObject({ code: 'invalid_value' });
      said = String(error);
    }
    expect(said).not.toBe('');
    expect(said).not.toContain(SECRET);
  });

  it('says which entry is for a resource, as an API server would', () => {
    const star = `${AESCBC}  - resources: ['*.*']\n    providers: [identity: {}]\n`;
    const parsed = parseEncryptionConfiguration(star);
    expect(entryFor(parsed, 'secrets')).toBe(parsed.entries[0]);
    expect(entryFor(parsed, 'configmaps')).toBe(parsed.entries[1]);
    expect(entryFor(parseEncryptionConfiguration(AESCBC), 'configmaps')).toBeUndefined();
  });
});

describe('kms-plugin config', () => {
  const run = async (...argv: string[]) => {
    const lines: string[] = [];
    const print = (line: string) => void lines.push(line);
    await kmsPluginCommand(['config', ...argv], { print, complain: print });
    return lines.join('\n');
  };

  it('prints it, from an earlier file that only its owner reads', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kms-config-'));
    try {
      const before = join(folder, 'enc.yaml');
      writeFileSync(before, AESCBC, { mode: 0o600 });
      const text = await run('--socket', '/run/kms.sock', '--before', before, '--read-only');
      expect(kinds(text)).toEqual([['secrets', 'aescbc', 'kms', 'identity']]);
      writeFileSync(join(folder, 'open.yaml'), AESCBC, { mode: 0o644 });
      await expect(
        run('--socket', '/run/kms.sock', '--before', join(folder, 'open.yaml')),
      ).rejects.toMatchObject({ code: 'invalid_value' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('that an earlier wildcard masks, or an earlier entry has write, is told by the doctor', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'kms-config-'));
    const doctor = async (text: string) => {
      const path = join(folder, 'enc.yaml');
      writeFileSync(path, text, { mode: 0o600 });
      const lines: string[] = [];
      const print = (line: string) => void lines.push(line);
      const code = await kmsPluginCommand(['doctor', '--config', path], { print, complain: print });
      return { code, said: lines[0] };
    };
    try {
      const ours = writeEncryptionConfiguration(wanted);
      expect(await doctor(ours)).toMatchObject({ code: 0 });
      const [head, entry] = ours.split('resources:\n', 1).concat(ours.slice(ours.indexOf('  - ')));
      const behind = (resources: string) =>
        doctor(
          `${String(head)}resources:\n  - resources: ["${resources}"]\n    providers:\n      - identity: {}\n${String(entry)}`,
        );
      expect(await behind('*.*')).toMatchObject({
        code: 1,
        said: expect.stringMatching(/^WRONG configuration: .*secrets is masked/u) as unknown,
      });
      expect(await behind('secrets')).toMatchObject({
        code: 0,
        said: expect.stringMatching(
          /: secrets: twofold only reads; identity writes, beside identity/u,
        ) as unknown,
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each([
    ['k8s:enc:aescbc:v1:key1:', 0],
    ['k8s:enc:aescbc:v1:key2:', 1],
    ['k8s:enc:aesgcm:v1:key1:', 1],
    ['k8s:enc:kms:v1:twofold:', 1],
  ])(
    'a value that begins with %s is one that it opens, or the doctor tells: %i',
    async (head, code) => {
      const folder = mkdtempSync(join(tmpdir(), 'kms-config-'));
      try {
        const [config, value] = [join(folder, 'enc.yaml'), join(folder, 'value')];
        const text = writeEncryptionConfiguration({ ...wanted, before: AESCBC });
        writeFileSync(config, text, { mode: 0o600 });
        writeFileSync(value, `${head}${'x'.repeat(48)}`);
        const lines: string[] = [];
        const print = (line: string) => void lines.push(line);
        const argv = ['doctor', '--config', config, '--value', value];
        expect(await kmsPluginCommand(argv, { print, complain: print })).toBe(code);
        expect(lines[1]).toMatch(code === 0 ? /^ok +value: / : /^WRONG value: .*does not have/u);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );

  it.each([
    [[]],
    [['--socket', 'kms.sock']],
    [['--socket', '/a', '--provider', 'a:b']],
    [['--socket', '/a', '--resource', 'Secrets']],
    [['--socket', '/a', '--only']],
  ])('refuses %j', async (argv) => {
    await expect(run(...argv)).rejects.toMatchObject({ code: 'invalid_value' });
  });
});
