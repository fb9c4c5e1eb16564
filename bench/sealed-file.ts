/**
 * Sealing and restoring a large file beside raw AES-256-GCM, in one run on one machine:
 *
 *     sh scripts/launch-dev bench/sealed-file.ts [--megabytes 1000] [--folder FOLDER]
 *
 * The file is sealed, verified and restored through a started service by `protect-checkpoint`, each in
 * a process of its own, which prints its rate and its memory; what was restored is compared byte for
 * byte. Raw is what node:crypto does without us: the cipher in memory, and a file through it into
 * another, flushed as ours is, both on one core. Bounds are printed, never asserted.
 */
import { spawnSync } from 'node:child_process';
import { createCipheriv, createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { writeSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { TestService } from '../test/e2e/service.ts';

const MIB = 1_048_576;
const RUNS = 3;
const root = join(import.meta.dirname, '..');
const { values } = parseArgs({
  options: {
    megabytes: { type: 'string', default: '1000' },
    folder: { type: 'string', default: tmpdir() },
    raw: { type: 'string' },
  },
});
const SIZE = Number(values.megabytes) * 1_000_000;

/** Megabytes per second of one pass over as many bytes as the file has. */
function rateOf(pass: () => void): number {
  const began = performance.now();
  pass();
  return SIZE / 1e3 / (performance.now() - began);
}

/** Chunk after chunk under nonces of their own, as a sealed file has them. */
function cipherInMemory(): void {
  const [key, chunk, nonce] = [randomBytes(32), randomBytes(MIB), Buffer.alloc(12)];
  for (let index = 0; index < SIZE / MIB; index += 1) {
    nonce.writeUInt32BE(index, 7);
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    for (let at = 0; at < MIB; at += 65_536) cipher.update(chunk.subarray(at, at + 65_536));
    cipher.final();
    cipher.getAuthTag();
  }
}

function hashInMemory(): void {
  const chunk = randomBytes(MIB);
  const hash = createHash('sha256');
  for (let index = 0; index < SIZE / MIB; index += 1) hash.update(chunk);
  hash.digest();
}

/** One file through the cipher into another, and to the disk. */
function cipherOfFile(source: string, target: string): void {
  const [input, output] = [openSync(source, 'r'), openSync(target, 'w')];
  const cipher = createCipheriv('aes-256-gcm', randomBytes(32), randomBytes(12));
  const chunk = Buffer.alloc(MIB);
  for (;;) {
    const read = readSync(input, chunk);
    if (read === 0) break;
    writeSync(output, cipher.update(chunk.subarray(0, read)));
  }
  cipher.final();
  fsyncSync(output);
  closeSync(input);
  closeSync(output);
  rmSync(target);
}

interface Raw {
  readonly cipher: number;
  readonly hash: number;
  readonly file: number;
}

/** In a process that is kept to one core. */
function measureRaw(source: string): Raw {
  cipherInMemory();
  return {
    cipher: rateOf(cipherInMemory),
    hash: rateOf(hashInMemory),
    file: rateOf(() => cipherOfFile(source, `${source}.raw`)),
  };
}

function rawOnOneCore(source: string): Raw {
  const script = [import.meta.filename, '--megabytes', values.megabytes, '--raw', source];
  const flags = ['-c', '0', process.execPath, '--disable-warning=ExperimentalWarning'];
  const run = spawnSync('taskset', [...flags, ...script], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  return JSON.parse(run.stdout) as Raw;
}

/**
 * Writes as much and gives it back: a virtual machine hands out memory that lay idle at half the speed,
 * so each measured write shall find pages that were used just now.
 */
function touchPages(folder: string): void {
  makeFile(join(folder, 'touched'), Buffer.alloc(MIB));
  rmSync(join(folder, 'touched'));
}

function makeFile(path: string, content?: Buffer): void {
  const file = openSync(path, 'w');
  for (let left = SIZE; left > 0; left -= MIB) {
    writeSync(file, content ?? randomBytes(Math.min(left, MIB)));
  }
  fsyncSync(file);
  closeSync(file);
}

interface Figures {
  readonly rate: number;
  readonly memory: number;
}

function protect(folder: string, argv: readonly string[]): Figures {
  const command = join(root, 'examples/protect-checkpoint/protect-checkpoint');
  const run = spawnSync(command, argv, { cwd: folder, encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  const [, rate, memory] = /(\d+) MB\/s .* (\d+) MB of memory/u.exec(run.stdout) ?? [];
  if (rate === undefined) return { rate: 0, memory: 0 };
  return { rate: Number(rate), memory: Number(memory) };
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

async function measure(service: TestService, folder: string): Promise<void> {
  const header = `Authorization: Bearer ${await service.token('user')}\n`;
  writeFileSync(join(folder, 'header'), header, { mode: 0o600 });
  const connection = ['--url', service.url, '--authorization', 'header'];
  for (const [name, suite] of [
    ['model', 'MLKEM768-P256'],
    ['signer', 'MLDSA65-ECDSA-P256-SHA512'],
  ]) {
    await service.request('POST', '/v1/admin/keys', { name, suite });
  }
  protect(folder, ['signer', 'signer', '--out', 'signer.json', ...connection]);
  makeFile(join(folder, 'plain'));
  const runs = { seal: [], verify: [], restore: [] } as Record<string, Figures[]>;
  const raws: Raw[] = [];
  const keys = ['--recipient', 'model', '--sign-with', 'signer'];
  const pinned = ['--signer', 'signer.json'];
  for (let run = 0; run < RUNS; run += 1) {
    touchPages(folder);
    raws.push(rawOnOneCore(join(folder, 'plain')));
    const out = ['--out', 'sealed'];
    touchPages(folder);
    runs['seal']?.push(protect(folder, ['seal', 'plain', ...keys, ...out, ...connection]));
    runs['verify']?.push(protect(folder, ['verify', 'sealed', ...pinned]));
    const restored = ['--out', 'restored', ...connection];
    touchPages(folder);
    runs['restore']?.push(protect(folder, ['restore', 'sealed', ...pinned, ...restored]));
    const same = spawnSync('cmp', ['plain', 'restored'], { cwd: folder }).status === 0;
    if (!same) throw new Error('what was restored is not what was sealed');
    for (const name of ['sealed', 'sealed.manifest', 'restored']) rmSync(join(folder, name));
  }
  print(raws, runs);
}

function print(raws: readonly Raw[], runs: Readonly<Record<string, readonly Figures[]>>): void {
  const line = (text = '') => process.stdout.write(`${text}\n`);
  const of = (name: keyof Raw) => median(raws.map((raw) => raw[name]));
  const [cipher, file] = [of('cipher'), of('file')];
  const { model = 'unknown' } = cpus()[0] ?? {};
  line(`${availableParallelism()} x ${model}, Node ${process.versions.node}`);
  line(
    `${SIZE} bytes in ${values.folder}, medians of ${RUNS} runs; every restored file was the same`,
  );
  line();
  line('| what | MB/s | of raw, file to file | of raw, in memory | memory |');
  line('| --- | --- | --- | --- | --- |');
  const row = (what: string, rate: number, memory = '') => {
    const share = (raw: number) => `${((100 * rate) / raw).toFixed(0)} %`;
    line(`| ${what} | ${rate.toFixed(0)} | ${share(file)} | ${share(cipher)} | ${memory} |`);
  };
  row('raw AES-256-GCM in memory, one core', cipher);
  row('raw SHA-256 in memory, one core', of('hash'));
  row('raw AES-256-GCM from file to file, one core', file);
  for (const [name, figures] of Object.entries(runs)) {
    const memory = Math.max(...figures.map((one) => one.memory));
    row(name, median(figures.map(({ rate }) => rate)), `${memory} MB`);
  }
}

if (values.raw !== undefined) process.stdout.write(JSON.stringify(measureRaw(values.raw)));
else {
  const folder = mkdtempSync(join(values.folder, 'twofold-sealed-bench-'));
  const service = await TestService.start();
  try {
    await measure(service, folder);
  } finally {
    await service.destroy();
    rmSync(folder, { recursive: true, force: true });
  }
}
