/** A throw-away self-signed certificate, by the openssl program. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const makeCertificate = (
  names = 'DNS:localhost,IP:127.0.0.1',
): { readonly certificate: string; readonly key: string } => {
  const folder = mkdtempSync(join(tmpdir(), 'twofold-certificate-'));
  const key = join(folder, 'key.pem');
  const certificate = join(folder, 'cert.pem');
  const how = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const what = ['-subj', '/CN=twofold-test', '-addext', `subjectAltName=${names}`];
  try {
    execFileSync('openssl', [...how, ...what, '-days', '2', '-keyout', key, '-out', certificate], {
      stdio: 'ignore',
    });
    return { certificate: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true });
  }
};
