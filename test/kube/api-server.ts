/** A real kube-apiserver over a real etcd: what a control plane is, but for what runs pods. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import type { Etcd } from './etcd.ts';
import { freePort } from '../free-port.ts';
import { Program } from './program.ts';

export interface KubeAnswer {
  readonly status: number;
  readonly text: string;
}

export interface ApiServerOptions {
  readonly path: string;
  readonly folder: string;
  readonly etcd: Etcd;
  /** An EncryptionConfiguration, as text. */
  readonly encryption: string;
}

/** Made once for a folder; the cluster's tokens stay valid over restarts. */
const keysOf = (folder: string): { readonly key: string; readonly publicKey: string } => {
  const [key, publicKey] = [join(folder, 'sa.key'), join(folder, 'sa.pub')];
  if (!existsSync(key)) {
    execFileSync(
      'openssl',
      [...['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', key]],
      { stdio: 'pipe' },
    );
    execFileSync('openssl', ['pkey', '-in', key, '-pubout', '-out', publicKey], { stdio: 'pipe' });
  }
  return { key, publicKey };
};

export const ISSUER = 'https://kubernetes.default.svc';

export class ApiServer {
  readonly #options: ApiServerOptions;
  readonly #token = randomBytes(16).toString('hex');
  #program: Program | undefined;
  #port = 0;
  #encryption: string;

  constructor(options: ApiServerOptions) {
    this.#options = options;
    this.#encryption = options.encryption;
  }

  get output(): string {
    return this.#program?.output ?? '';
  }

  /** Starts it and, unless told otherwise, waits until it is ready. */
  async start(ready = true, milliseconds = 90_000): Promise<void> {
    const { path, folder, etcd } = this.#options;
    mkdirSync(folder, { recursive: true });
    const at = (name: string) => join(folder, name);
    writeFileSync(at('encryption.yaml'), this.#encryption, { mode: 0o600 });
    writeFileSync(at('tokens.csv'), `${this.#token},admin,1,system:masters\n`, { mode: 0o600 });
    const { key, publicKey } = keysOf(folder);
    this.#port = await freePort();
    this.#program = new Program(path, [
      `--etcd-servers=${etcd.url}`,
      `--encryption-provider-config=${at('encryption.yaml')}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${this.#port}`,
      `--cert-dir=${at('certificates')}`,
      `--token-auth-file=${at('tokens.csv')}`,
      '--anonymous-auth=false',
      '--authorization-mode=RBAC',
      `--service-account-issuer=${ISSUER}`,
      `--service-account-key-file=${publicKey}`,
      `--service-account-signing-key-file=${key}`,
      `--api-audiences=${ISSUER}`,
      '--service-cluster-ip-range=10.96.0.0/24',
      '--endpoint-reconciler-type=none',
      '--disable-admission-plugins=ServiceAccount',
      '--profiling=false',
      '--watch-cache=true',
      '-v=1',
    ]);
    if (ready) await this.untilReady(milliseconds);
  }

  untilReady(milliseconds = 90_000): Promise<void> {
    const ready = async () => (await this.get('/readyz')).status === 200;
    return this.program.until('is ready', ready, milliseconds);
  }

  get program(): Program {
    if (this.#program === undefined) throw new Error('the API server was not started');
    return this.#program;
  }

  /** Started anew with another EncryptionConfiguration, as operators change it. */
  async restartWith(encryption: string): Promise<void> {
    await this.stop();
    this.#encryption = encryption;
    await this.start();
  }

  /** As an orderly restart does, or a power cut. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#program?.stop(signal);
  }

  get = (path: string) => this.call('GET', path);

  /** @throws where it is not reached within 15 s */
  call(method: string, path: string, body?: object): Promise<KubeAnswer> {
    const ca = readFileSync(join(this.#options.folder, 'certificates/apiserver.crt'));
    return new Promise((resolve, reject) => {
      const sent = request(
        {
          ...{ host: '127.0.0.1', port: this.#port, method, path, ca, timeout: 15_000 },
          headers: {
            authorization: `Bearer ${this.#token}`,
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          agent: false,
        },
        (answer) => {
          const chunks: Buffer[] = [];
          answer.on('data', (chunk: Buffer) => chunks.push(chunk));
          answer.on('error', reject);
          answer.on('end', () => {
            resolve({
              status: answer.statusCode ?? 0,
              text: Buffer.concat(chunks).toString('utf8'),
            });
          });
        },
      );
      sent.on('timeout', () => sent.destroy(new Error('no answer')));
      sent.on('error', reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  putSecret(name: string, value: string): Promise<KubeAnswer> {
    return this.call('POST', '/api/v1/namespaces/default/secrets', {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name },
      data: { value: Buffer.from(value).toString('base64') },
    });
  }

  /** An update that changes nothing: rewrites what was stored under an old key. */
  async touchSecret(name: string): Promise<KubeAnswer> {
    const path = `/api/v1/namespaces/default/secrets/${name}`;
    const { status, text } = await this.get(path);
    if (status !== 200) return { status, text };
    return this.call('PUT', path, JSON.parse(text) as object);
  }

  /** Undefined unless it is answered with 200. */
  async secret(name: string): Promise<string | undefined> {
    const { status, text } = await this.get(`/api/v1/namespaces/default/secrets/${name}`);
    if (status !== 200) return undefined;
    const { data } = JSON.parse(text) as { readonly data: { readonly value: string } };
    return Buffer.from(data.value, 'base64').toString('utf8');
  }
}
