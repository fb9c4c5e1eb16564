import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { formatVkey, SIGNATURE_TYPE } from '../../src/audit/tree/vkey.ts';
import { ExportTarget } from '../../src/client/export-folder.ts';
import { auditCommand } from '../../src/main/audit-command.ts';
import { auditVerifyCommand } from '../../src/main/audit-verify-command.ts';
import { linkExport } from '../../src/main/linked-export.ts';
import { makeLog, trustFile, writeExport } from '../audit/synthetic-log.ts';
import type { Log } from '../audit/synthetic-log.ts';
import { makeSigner } from '../audit/synthetic.ts';

const root = mkdtempSync(join(tmpdir(), 'audit-verify-command-'));
const folder = join(root, 'export');
const trust = join(root, 'trust');
const witnesses = join(root, 'witnesses');
const witness = makeSigner(SIGNATURE_TYPE.mlDsa44Cosignature, 'witness.example/one');
let log: Log;

beforeAll(async () => {
  log = await makeLog(600, 3, [witness]);
  writeExport(folder, log);
  writeFileSync(trust, trustFile(log));
  writeFileSync(witnesses, `${formatVkey(witness.vkey)}\n`);
});
afterAll(() => {
  rmSync(root, { recursive: true });
});

async function run(...argv: string[]) {
  const [printed, complained]: [string[], string[]] = [[], []];
  const code = await auditVerifyCommand(
    argv,
    (line) => printed.push(line),
    (line) => complained.push(line),
  );
  return { code, printed: printed.join('\n'), complained: complained.join('\n') };
}

describe('twofold audit verify', () => {
  it('ends with 0 and says against whom it holds', async () => {
    const plain = await run(folder, '--trust', trust);
    expect(plain).toMatchObject({ code: 0, complained: '' });
    expect(plain.printed).toContain('not against a holder of the HSM PIN');
    const witnessed = await run(
      ...[folder, '--trust', trust, '--witnesses', witnesses, '--threshold', '1'],
    );
    expect(witnessed.code).toBe(0);
    expect(witnessed.printed).toContain('signed by witness.example/one');
  });

  it('ends with 1 and names the first bad index', async () => {
    const altered = join(root, 'altered');
    const bodies = log.bodies.map((body) => Uint8Array.from(body));
    const body = bodies[77];
    if (body?.[60] === undefined) throw new Error('no entry');
    body[60] ^= 1;
    writeExport(altered, { ...log, bodies });
    const plain = await run(altered, '--trust', trust);
    expect(plain.code).toBe(1);
    expect(plain.printed).toContain('index 77: entry_altered: tile/entries/000');
    expect(plain.printed).toContain('NOT VERIFIED: the first bad index is 77');
    const json = await run(altered, '--trust', trust, '--json');
    expect(json.code).toBe(1);
    expect(JSON.parse(json.printed)).toMatchObject({
      verified: false,
      first: { code: 'entry_altered', index: 77 },
      claim: { against: 'nobody' },
    });
  });

  it('holds the export against what was seen', async () => {
    const seen = join(root, 'seen');
    writeFileSync(seen, log.newest);
    expect((await run(folder, '--trust', trust, '--seen', seen)).code).toBe(0);
    const old = join(root, 'old');
    const size = 513;
    const at = log.sizes.indexOf(size);
    writeExport(old, {
      ...log,
      bodies: log.bodies.slice(0, size),
      leaves: log.leaves.slice(0, size),
      notes: log.notes.slice(0, at + 1),
      newest: log.notes[at] ?? '',
    });
    expect((await run(old, '--trust', trust, '--log-only')).code).toBe(0);
    const back = await run(old, '--trust', trust, '--log-only', '--seen', seen);
    expect(back.code).toBe(1);
    expect(back.printed).toContain('index 513: rolled_back');
  });

  it.each([
    [[]],
    [['FOLDER']],
    [['FOLDER', 'another', '--trust', 'TRUST']],
    [['FOLDER', '--trust', 'TRUST', '--unknown']],
    [['FOLDER', '--trust', 'TRUST', '--witnesses', 'WITNESSES']],
    [['FOLDER', '--trust', 'TRUST', '--threshold', '1']],
    [['FOLDER', '--trust', 'TRUST', '--witnesses', 'WITNESSES', '--threshold', '2']],
    [['FOLDER', '--trust', 'TRUST', '--witnesses', 'WITNESSES', '--threshold', '0']],
    [['FOLDER', '--trust', 'FOLDER/export.json']],
    [['FOLDER', '--trust', 'FOLDER/nothing']],
    [['FOLDER/tile', '--trust', 'TRUST']],
    [['FOLDER', '--trust', 'TRUST', '--seen', 'FOLDER/nothing']],
  ])('ends with 2 for %j', async (argv: string[]) => {
    const places = { FOLDER: folder, TRUST: trust, WITNESSES: witnesses };
    const given = argv.map((each) =>
      each.replace(/^(FOLDER|TRUST|WITNESSES)/, (name) => places[name as keyof typeof places]),
    );
    const { code, printed, complained } = await run(...given);
    expect([code, printed]).toEqual([2, '']);
    expect(complained).toContain('The command is: twofold audit verify');
  });

  it('ends with 2 where a file cannot be read, of the export or of one beside it', async () => {
    const [loop, tile] = [join(root, 'unread'), join(root, 'unread-tile')];
    for (const copy of [loop, tile]) cpSync(folder, copy, { recursive: true });
    for (const file of [join(loop, 'checkpoint'), join(tile, 'tile/entries/001')]) {
      rmSync(file);
      symlinkSync(basename(file), file);
    }
    for (const argv of [[loop], [tile], [folder, '--against', loop]]) {
      const { code, printed, complained } = await run(...argv, '--trust', trust);
      expect([argv, code, printed]).toEqual([argv, 2, '']);
      expect(complained).toMatch(/^twofold: ELOOP.*\(file_failed\)$/u);
    }
  });

  it.each<[readonly string[], string]>([
    [[], '--trust is missing'],
    [['--trust', 'TRUST', '--unknown'], '--unknown'],
    [['--trust', 'TRUST', '--from', 'never'], 'invalid_value'],
    [['--trust', 'TRUST', '--archive', 'NOTHING'], 'no complete export'],
    // Where nothing was looked at nothing was found either.
    [['--trust', 'TRUST', '--authorization', 'NOTHING'], 'NOTHING'],
    [['--trust', 'TRUST', '--archive', 'LOOP'], 'file_failed'],
  ])('of a live service ends with 2 for %j', async (argv, why) => {
    const [nothing, loop] = [join(root, 'nothing'), mkdtempSync(join(root, 'loop-'))];
    writeFileSync(join(loop, 'export.json'), '');
    symlinkSync('tile', join(loop, 'tile'));
    const places: Readonly<Record<string, string>> = { TRUST: trust, NOTHING: nothing, LOOP: loop };
    const given = argv.map((each) => places[each] ?? each);
    const complained: string[] = [];
    const code = await auditCommand(['verify', '--live', ...given], {
      print: () => undefined,
      complain: (line) => complained.push(line),
      write: () => Promise.resolve(),
    });
    expect(code).toBe(2);
    expect(complained.join('\n')).toContain(why.replace('NOTHING', nothing));
  });

  it('verifies an export by links to it, which whoever writes there leaves as it is', async () => {
    const linked = join(root, 'linked');
    const unfinished = ['export.plan.json', 'checkpoints.next', 'tile/entries/002.partial'];
    for (const name of unfinished) writeFileSync(join(folder, name), '{}');
    linkExport(folder, linked);
    for (const name of unfinished) {
      expect([name, existsSync(join(linked, name))]).toEqual([name, false]);
      rmSync(join(folder, name));
    }
    expect(await run(linked, '--trust', trust)).toMatchObject({ code: 0 });
    const target = new ExportTarget(linked);
    await target.put('checkpoint', ['another']);
    await target.remove('checkpoints');
    expect(await run(linked, '--trust', trust)).toMatchObject({ code: 1 });
    expect(await run(folder, '--trust', trust)).toMatchObject({ code: 0 });
  });

  it('leaves an export as it is whose tiles a link names', async () => {
    const [archive, cold] = [join(root, 'archive'), join(root, 'cold')];
    const linked = join(root, 'linked-archive');
    cpSync(folder, archive, { recursive: true });
    renameSync(join(archive, 'tile'), cold);
    symlinkSync(cold, join(archive, 'tile'));
    linkExport(archive, linked);
    expect(await run(linked, '--trust', trust)).toMatchObject({ code: 0 });
    const target = new ExportTarget(linked);
    await target.put('tile/entries/000', ['another']);
    await target.put('tile/entries/003', ['one more']);
    await target.remove('tile/0/002.p/88');
    expect(await run(linked, '--trust', trust)).toMatchObject({ code: 1 });
    expect(await run(archive, '--trust', trust)).toMatchObject({ code: 0 });
    expect(existsSync(join(cold, 'entries/003'))).toBe(false);
    symlinkSync(archive, join(cold, 'within'));
    expect(() => linkExport(archive, join(root, 'endless'))).toThrow(
      expect.objectContaining({ code: 'invalid_value' }),
    );
  });

  it('is a command of the program', () => {
    const launch = resolve(import.meta.dirname, '../../scripts/launch');
    const argv = [launch, 'audit', 'verify', folder, '--trust', trust, '--json'];
    const { status, stdout } = spawnSync('sh', argv, { encoding: 'utf8' });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ verified: true, until: 600 });
    expect(spawnSync('sh', [launch, 'audit', 'nonsense']).status).toBe(2);
  });
});
