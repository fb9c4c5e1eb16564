/** Takes a backup in a process that a test kills: `killed-child.ts URL FOLDER PUBLIC-KEY-FILE`. */
import { readFileSync } from 'node:fs';

import { takeBackup } from '../../src/backup/take.ts';
import { nativeEngine } from '../../src/crypto/native-engine.ts';
import { decodePublicKey } from '../../src/recovery/key.ts';
import { openSnapshot } from '../../src/store/backup-snapshot.ts';
import { softwareSigner } from './signer.ts';

const [, , url = '', folder = '', file = ''] = process.argv;
const lastingMac = () => Promise.resolve(new Uint8Array(32));
const signer = await softwareSigner(lastingMac);
process.stdout.write('begun\n');
const { path } = await takeBackup(
  {
    ...{ engine: nativeEngine, signer, lastingMac, version: '0.0.0-test' },
    open: (entries) => openSnapshot({ url }, entries),
    installation: '01234567-89ab-4def-8123-456789abcdef',
    probes: async function* () {
      yield* await Promise.resolve([]);
    },
  },
  {
    ...{ folder, entries: 'tail' },
    publicKey: decodePublicKey(nativeEngine, readFileSync(file, 'utf8')),
  },
);
process.stdout.write(`${path}\n`);
