/** Certificates of an authority of the test's own, for the addresses of the zones. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Writes `ca.pem` and, for each name, `<name>.pem` and `<name>.key` into `folder`. */
export function makeCertificates(
  folder: string,
  names: readonly string[],
  addresses: readonly string[],
): void {
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const authority = ['-subj', '/CN=Zones CA', '-days', '2', '-keyout', 'ca.key', '-out', 'ca.pem'];
  openssl('req', '-x509', ...key, ...authority);
  const alternatives = addresses.map((address) => `IP:${address}`).join(',');
  writeFileSync(join(folder, 'san.cnf'), `subjectAltName=${alternatives}\n`);
  for (const name of names) {
    const request = [`-keyout`, `${name}.key`, '-out', `${name}.csr`];
    openssl('req', ...key, '-subj', `/CN=${name}`, ...request);
    const by = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-extfile', 'san.cnf'];
    openssl('x509', '-req', '-in', `${name}.csr`, ...by, '-days', '2', '-out', `${name}.pem`);
    execFileSync('chmod', ['600', join(folder, `${name}.key`)]);
  }
}
