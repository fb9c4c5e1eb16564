/** Authorities and client certificates, made by the openssl program. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ClientCertificate {
  readonly cert: string;
  readonly key: string;
  readonly parsed: X509Certificate;
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Valid for ten days from when it is made, and what it issues for two. */
export class TestAuthority {
  readonly certificate: X509Certificate;
  readonly pem: string;
  readonly #folder = mkdtempSync(join(tmpdir(), 'twofold-ca-'));
  #count = 0;

  constructor(name: string) {
    this.#openssl(
      'req',
      '-x509',
      ...NEW_KEY,
      '-subj',
      `/CN=${name}`,
      '-days',
      '10',
      ...this.#at('ca'),
    );
    this.pem = this.#read('ca.cert');
    this.certificate = new X509Certificate(this.pem);
  }

  /** `names` as of subjectAltName; `usage` of extendedKeyUsage, null: none. */
  issue(names: string, usage: string | null = 'clientAuth', more = ''): ClientCertificate {
    const id = `leaf-${String((this.#count += 1))}`;
    const lines = [
      `subjectAltName=${names}`,
      usage === null ? '' : `extendedKeyUsage=${usage}`,
      more,
    ];
    writeFileSync(join(this.#folder, 'extensions'), lines.join('\n'));
    this.#openssl('req', '-new', ...NEW_KEY, '-subj', '/CN=leaf', ...this.#at(id));
    const by = ['-CA', 'ca.cert', '-CAkey', 'ca.key', '-extfile', 'extensions', '-days', '2'];
    this.#openssl('x509', '-req', '-in', `${id}.cert`, ...by, '-out', `${id}.pem`);
    const cert = this.#read(`${id}.pem`);
    return { cert, key: this.#read(`${id}.key`), parsed: new X509Certificate(cert) };
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

  #openssl(...words: readonly string[]): void {
    execFileSync('openssl', words, { cwd: this.#folder, stdio: 'ignore' });
  }
}
