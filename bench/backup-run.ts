/** One backup in a process of its own, so that its memory is its own: `backup-run.ts URL FOLDER`. */
import { takeBackup } from '../src/backup/take.ts';
import { nativeEngine } from '../src/crypto/native-engine.ts';
import { newSeed, recoveryKeyOf } from '../src/recovery/key.ts';
import { openSnapshot } from '../src/store/backup-snapshot.ts';
import { softwareSigner } from '../test/backup/signer.ts';

const [, , url = '', folder = ''] = process.argv;
const seed = newSeed();
const { publicKey } = recoveryKeyOf(nativeEngine, seed);
const lastingMac = () => Promise.resolve(new Uint8Array(32));
const signer = await softwareSigner(lastingMac);
const before = process.resourceUsage().maxRSS;
const begun = performance.now();
const { manifest } = await takeBackup(
  {
    ...{ engine: nativeEngine, signer, lastingMac, version: 'bench' },
    open: (entries) => openSnapshot({ url }, entries),
    installation: '01234567-89ab-4def-8123-456789abcdef',
    // Rows by SQL alone have no MACs, and what is probed is verified.
    probes: async function* () {
      yield* await Promise.resolve([]);
    },
  },
  { folder, publicKey, entries: 'tail' },
);
const seconds = (performance.now() - begun) / 1000;
const rows = manifest.tables.reduce((sum, table) => sum + table.rows, 0);
const [megabytes, baseline] = [process.resourceUsage().maxRSS, before].map((kibibytes) =>
  Math.round((kibibytes * 1024) / 1e6),
);
process.stdout.write(
  JSON.stringify({ seconds, rows, bytes: manifest.content.length, megabytes, baseline }),
);
