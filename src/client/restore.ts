/** Restoring: a sealed file back into a plain one, which appears only when everything verified. */
import { throwIfAborted } from './client-error.ts';
import { SealedFile } from './sealed-file.ts';
import { assertAbsent, TargetFile } from './target-file.ts';
import type { KeyService } from './key-service.ts';
import type { Manifest } from './manifest.ts';
import type { OpenOptions } from './sealed-file.ts';
import type { Signer } from './signer.ts';

export interface RestoreOptions extends OpenOptions {
  readonly service: KeyService;
  /** May not exist; made readable for its owner alone. */
  readonly target: string;
  readonly signal?: AbortSignal;
}

export interface Restored {
  readonly manifest: Manifest;
  /** Whose signature it carries. */
  readonly signer: Signer;
}

/**
 * @throws ClientError; the target is not there then, and no temporary file
 */
export async function restoreFile(options: RestoreOptions): Promise<Restored> {
  const { service, target, signal } = options;
  await assertAbsent(target);
  const sealed = await SealedFile.open(options);
  try {
    await sealed.unlock(service);
    const file = TargetFile.create(target, 0o600);
    try {
      await sealed.decryptTo(file.fd, signal);
      await file.flush();
      throwIfAborted(signal);
      await file.publish();
      return { manifest: sealed.manifest, signer: sealed.signer };
    } finally {
      await file.discard();
    }
  } finally {
    sealed.close();
  }
}
