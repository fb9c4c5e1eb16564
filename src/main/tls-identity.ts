/** A listener's certificate, key and authorities, read from their files and found to belong together. */
import { X509Certificate, createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';

import { readOwnerOnlyFile } from '../config.ts';
import type { TlsFiles } from '../config.ts';
import { TwofoldError } from '../errors.ts';
import type { TlsOptions } from '../http/listener.ts';

export interface TlsIdentity {
  readonly options: TlsOptions;
  /** Equal for equal content of all files. */
  readonly digest: string;
  /** SHA-256 of the leaf in hex; what `openssl x509 -fingerprint -sha256` prints, in lower case without colons. */
  readonly fingerprint: string;
  readonly validFrom: Date;
  readonly validTo: Date;
}

/**
 * @throws TwofoldError `invalid_value` when a file cannot be used, or they do not make an identity; names
 *   files, and quotes nothing of them
 */
export function readTlsIdentity(files: TlsFiles): TlsIdentity {
  const cert = readPublic(files.certFile);
  const key = Buffer.from(readOwnerOnlyFile(files.keyFile, 0o007));
  const ca = files.caFile === undefined ? undefined : readPublic(files.caFile);
  const options = {
    cert,
    key,
    ...(ca === undefined ? {} : { ca }),
    ...(files.clientCertificates === 'request' ? { clients: 'request' as const } : {}),
  };
  const digest = createHash('sha256');
  for (const part of [cert, key, ca ?? Buffer.alloc(0)]) {
    digest.update(createHash('sha256').update(part).digest());
  }
  try {
    // Also tells a key that is another certificate's.
    createSecureContext({ cert, key, ...(ca === undefined ? {} : { ca }) });
    const leaf = new X509Certificate(cert);
    return {
      options,
      digest: digest.digest('hex'),
      fingerprint: leaf.fingerprint256.replaceAll(':', '').toLowerCase(),
      validFrom: leaf.validFromDate,
      validTo: leaf.validToDate,
    };
  } catch (cause) {
    const named = [files.certFile, files.keyFile, files.caFile].filter(
      (name) => name !== undefined,
    );
    const detail = `${named.join(', ')} do not make a TLS identity`;
    throw new TwofoldError('invalid_value', detail, { cause });
  }
}

/**
 * A certificate that is not valid now would only take the place of one that may be.
 *
 * @throws TwofoldError `invalid_value`
 */
export function assertValidAt({ validFrom, validTo }: TlsIdentity, now: Date): void {
  if (now >= validFrom && now <= validTo) return;
  const [from, to] = [validFrom.toISOString(), validTo.toISOString()];
  throw new TwofoldError(
    'invalid_value',
    `The certificate is valid from ${from} to ${to}, not now.`,
  );
}

function readPublic(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new TwofoldError('invalid_value', `${path} cannot be read`, { cause });
  }
}
