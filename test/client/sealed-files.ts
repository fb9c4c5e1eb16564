/** A folder of sealed files for tests, sealed in small chunks by keys in software. */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ClientError } from '../../src/client/client-error.ts';
import { restoreFile } from '../../src/client/restore.ts';
import { MANIFEST_SUFFIX, sealFile } from '../../src/client/seal.ts';
import { parseSigner } from '../../src/client/signer.ts';
import { SoftwareKeyService } from './software-service.ts';
import type { Sealed, SealOptions } from '../../src/client/seal.ts';

export const CHUNK = 4_096;

export class SealedFolder {
  readonly folder: string;
  readonly service = new SoftwareKeyService();
  #made = 0;

  constructor(parent = tmpdir()) {
    this.folder = mkdtempSync(join(parent, 'twofold-sealed-'));
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  newPath(): string {
    this.#made += 1;
    return this.path(`file-${this.#made}`);
  }

  /** Writes the plaintext to a file and seals it; returns the path of the sealed file. */
  async seal(plaintext: Uint8Array, options: Partial<SealOptions> = {}): Promise<string> {
    const source = this.newPath();
    writeFileSync(source, plaintext);
    const target = `${source}.sealed`;
    await this.sealTo(source, target, options);
    rmSync(source);
    return target;
  }

  sealTo(source: string, target: string, options: Partial<SealOptions> = {}): Promise<Sealed> {
    const keys = { recipients: ['model'], signer: 'signer', service: this.service };
    return sealFile({ ...keys, chunkSize: CHUNK, source, target, ...options });
  }

  /** A sealed file of these bytes, with the manifest of another or of its own. */
  plant(bytes: Uint8Array, manifest: Uint8Array | string): string {
    const path = this.newPath();
    writeFileSync(path, bytes);
    if (typeof manifest === 'string') copyFileSync(manifest, path + MANIFEST_SUFFIX);
    else writeFileSync(path + MANIFEST_SUFFIX, manifest);
    return path;
  }

  async signers() {
    return [parseSigner(await this.service.publicKey('signer'))];
  }

  /** What restoring gives. */
  async restore(path: string): Promise<Buffer> {
    const target = this.newPath();
    await restoreFile({ service: this.service, path, signers: await this.signers(), target });
    const bytes = readFileSync(target);
    rmSync(target);
    return bytes;
  }

  /** The code that restoring fails with; throws when it succeeds or leaves a file behind. */
  async refusal(path: string): Promise<string> {
    const target = this.newPath();
    const signers = await this.signers();
    const code = await codeOf(restoreFile({ service: this.service, path, signers, target }));
    if (existsSync(target)) throw new Error('a target file appeared');
    this.assertNothingTemporary();
    return code;
  }

  assertNothingTemporary(): void {
    const left = readdirSync(this.folder).filter((name) => name.startsWith('.'));
    if (left.length > 0) throw new Error(`left behind: ${left.join(', ')}`);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The code that a promise rejects with. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    if (ClientError.is(error)) return error.code;
    throw error;
  }
  throw new Error('nothing was refused');
}
