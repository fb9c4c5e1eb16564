/** Private keys as OpenSSL makes them, in a folder of its own, in every form that is imported. */
import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** The passphrase of what is encrypted; in the file `words`. */
export const WORDS = 'correct horse battery';
const ENCRYPTED = '-passout file:words';

/** Members of text alone. */
export const jwkOf = (pem: string): Readonly<Record<string, string>> => ({
  ...(createPrivateKey(pem).export({ format: 'jwk' }) as Record<string, string>),
});

/** Of Node's own OpenSSL: that of the host may know none of these. */
export const pqPem = (type: 'ml-dsa-65' | 'ml-kem-768' | 'slh-dsa-sha2-128f') =>
  // One overload for each family: the type is of the first.
  generateKeyPairSync(type as 'ml-dsa-65', {
    privateKeyEncoding: { format: 'pem', type: 'pkcs8' },
    publicKeyEncoding: { format: 'pem', type: 'spki' },
  });

export class OpensslKeys {
  readonly folder = mkdtempSync(join(tmpdir(), 'twofold-openssl-'));

  constructor() {
    this.write('words', `${WORDS}\n`);
    this.ec('P-256', 'p256.pem');
    this.rsa('rsa.pem');
    for (const key of ['p256', 'rsa']) {
      this.run(`req -x509 -new -key ${key}.pem -subj /CN=x -days 1 -out ${key}.crt`);
    }
  }

  at(name: string): string {
    return join(this.folder, name);
  }

  read(name: string): Buffer {
    return readFileSync(this.at(name));
  }

  text(name: string): string {
    return readFileSync(this.at(name), 'latin1');
  }

  write(name: string, content: string | Uint8Array, mode = 0o600): void {
    writeFileSync(this.at(name), content, { mode });
  }

  /** @param line arguments of `openssl`, of which none has a space */
  run(line: string): Buffer {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    return execFileSync('openssl', line.split(' '), { cwd: this.folder, stdio: [...stdio] });
  }

  ec(curve: string, out: string): void {
    this.run(`genpkey -algorithm EC -pkeyopt ec_paramgen_curve:${curve} -out ${out}`);
  }

  rsa(out: string): void {
    this.run(`genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out ${out}`);
  }

  encrypt(key: string, out: string): void {
    this.run(`pkcs8 -topk8 -in ${key} -out ${out} ${ENCRYPTED}`);
  }

  publicPem(key: string): string {
    return this.run(`pkey -in ${key} -pubout`).toString('latin1');
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface Form {
  readonly form: string;
  readonly of: 'p256' | 'rsa';
  /** Arguments of `openssl` before `-out`, or what makes the file otherwise. */
  readonly by: string | ((keys: OpensslKeys, out: string) => void);
}

const P12 = 'pkcs12 -export -passout file:words';

/** Forms of `p256.pem` and `rsa.pem`. */
export const FORMS: readonly Form[] = [
  { form: 'PEM, PKCS #8', of: 'p256', by: 'pkey -in p256.pem' },
  { form: 'PEM, encrypted PKCS #8', of: 'p256', by: `pkcs8 -topk8 -in p256.pem ${ENCRYPTED}` },
  {
    form: 'DER, encrypted PKCS #8 by scrypt',
    of: 'p256',
    by: `pkcs8 -topk8 -scrypt -in p256.pem -outform DER ${ENCRYPTED}`,
  },
  { form: 'DER, PKCS #8', of: 'p256', by: 'pkcs8 -topk8 -nocrypt -in p256.pem -outform DER' },
  { form: 'PEM, SEC 1', of: 'p256', by: 'ec -in p256.pem' },
  {
    form: 'PEM, SEC 1 after its parameters',
    of: 'p256',
    by: (keys, out) => {
      const parameters = keys.run('ecparam -name prime256v1');
      keys.write(out, Buffer.concat([parameters, keys.run('ec -in p256.pem')]));
    },
  },
  {
    form: 'PEM, SEC 1, encrypted as of old',
    of: 'p256',
    by: `ec -in p256.pem -aes256 ${ENCRYPTED}`,
  },
  { form: 'DER, SEC 1', of: 'p256', by: 'ec -in p256.pem -outform DER' },
  { form: 'PEM, PKCS #1', of: 'rsa', by: 'rsa -in rsa.pem -traditional' },
  { form: 'DER, PKCS #1', of: 'rsa', by: 'rsa -in rsa.pem -traditional -outform DER' },
  { form: 'PKCS #12', of: 'rsa', by: `${P12} -inkey rsa.pem -in rsa.crt` },
  {
    form: 'PKCS #12 as of old, 3DES and SHA-1',
    of: 'p256',
    by: `${P12} -inkey p256.pem -in p256.crt -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES -macalg sha1`,
  },
  {
    form: 'PKCS #12 with its key in the clear, SHA-512',
    of: 'p256',
    by: `${P12} -inkey p256.pem -nocerts -keypbe NONE -macalg sha512`,
  },
  {
    form: 'JWK',
    of: 'p256',
    by: (keys, out) => {
      const jwk = { ...jwkOf(keys.text('p256.pem')), use: 'sig', kid: 'one' };
      keys.write(out, JSON.stringify(jwk, null, 2));
    },
  },
];

/** The file of a form, made anew. */
export function makeForm(keys: OpensslKeys, { by }: Form): string {
  const out = 'form';
  if (typeof by === 'string') keys.run(`${by} -out ${out}`);
  else by(keys, out);
  return out;
}
