/** Authorities and client certificates, made by the openssl program. */
import { execFileSync } from 'node:child_process';
import { X509Certificate, createPrivateKey, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { derBitString, derSequence, readDer } from '../../src/crypto/der.ts';
import type { DerElement } from '../../src/crypto/der.ts';

export interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
  readonly parsed: X509Certificate;
}

export interface AuthorityOptions {
  /** What stands after `-newkey`; of P-256 unless told. */
  readonly newKey?: readonly string[];
  /** Negative: it ended before it began. */
  readonly days?: number;
  /** An extension of its certificate. */
  readonly more?: string;
}

/** Of a SEQUENCE. */
function elementsOf(der: Uint8Array): readonly DerElement[] {
  return readDer(der, 'test', (outer) => {
    const reader = outer.enter();
    const found: DerElement[] = [];
    while (!reader.atEnd) found.push(reader.element());
    return found;
  });
}

const P256 = ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'];
const NEW_KEY = ['-newkey', ...P256, '-nodes'];
/** Valid for ten days from when it is made, and what it issues for two, unless told. */
export class TestAuthority {
  readonly certificate: X509Certificate;
  readonly pem: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'twofold-ca-'));
  #count = 0;

  constructor(name: string, { newKey = P256, days = 10, more }: AuthorityOptions = {}) {
    const extension = more === undefined ? [] : ['-addext', more];
    const key = ['-newkey', ...newKey, '-nodes'];
    const said = ['-subj', `/CN=${name}`, ...extension, '-days', String(Math.abs(days))];
    this.#openssl('req', '-x509', ...key, ...said, ...this.#at('ca'));
    if (days < 0) this.#sign('ca.cert', '-signkey', 'ca.key', '-days', String(days));
    this.pem = this.#read('ca.cert');
    this.certificate = new X509Certificate(this.pem);
  }

  /** `names` as of subjectAltName; `usage` of extendedKeyUsage, null: none. */
  issue(
    names: string,
    usage: string | null = 'clientAuth',
    more = '',
    days = 2,
    digest = '-sha256',
  ): ClientCertificate {
    const id = `leaf-${String((this.#count += 1))}`;
    const lines = [
      `subjectAltName=${names}`,
      usage === null ? '' : `extendedKeyUsage=${usage}`,
      more,
    ];
    writeFileSync(join(this.#folder, 'extensions'), lines.join('\n'));
    this.#openssl('req', '-new', ...NEW_KEY, '-subj', '/CN=leaf', ...this.#at(id));
    const validity = [digest, '-days', String(days)];
    const by = ['-CA', 'ca.cert', '-CAkey', 'ca.key', '-extfile', 'extensions', ...validity];
    this.#openssl('x509', '-req', '-in', `${id}.cert`, ...by, '-out', `${id}.pem`);
    const cert = this.#read(`${id}.pem`);
    return { cert, key: this.#read(`${id}.key`), parsed: new X509Certificate(cert) };
  }

  /** The same certificate with another subject (DER of a Name), signed anew. */
  renamed({ key, parsed }: ClientCertificate, subject: Uint8Array): ClientCertificate {
    const [tbs, algorithm] = elementsOf(parsed.raw);
    const fields = elementsOf(tbs?.encoded ?? new Uint8Array()).map(({ encoded }) => encoded);
    // Version, serial, signature, issuer, validity, subject.
    fields[5] = subject;
    const made = derSequence(...fields);
    const signature = sign('sha256', made, createPrivateKey(this.#read('ca.key')));
    const der = derSequence(made, algorithm?.encoded ?? new Uint8Array(), derBitString(signature));
    const cert = new X509Certificate(der).toString();
    return { cert, key, parsed: new X509Certificate(cert) };
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true });
  }

  #at(id: string): readonly string[] {
    return ['-keyout', `${id}.key`, '-out', `${id}.cert`];
  }

  #read(name: string): string {
    return readFileSync(join(this.#folder, name), 'utf8');
  }

  #sign(name: string, ...words: readonly string[]): void {
    this.#openssl('x509', '-in', name, ...words, '-out', `${name}.again`);
    renameSync(join(this.#folder, `${name}.again`), join(this.#folder, name));
  }

  #openssl(...words: readonly string[]): void {
    execFileSync('openssl', words, { cwd: this.#folder, stdio: 'ignore' });
  }
}
