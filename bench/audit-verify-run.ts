/** Verifies one export and says what it took of memory, in a process of its own. */
import { readFileSync } from 'node:fs';
import { parseVkeys } from '../src/audit/tree/vkey.ts';
import { verifyExport } from '../src/audit/verify/verify.ts';

const [folder = '', trust = ''] = process.argv.slice(2);
const report = await verifyExport(folder, { trust: parseVkeys(readFileSync(trust, 'utf8')) });
const run = {
  verified: report.verified,
  first: report.first,
  checkpoints: report.checkpoints,
  changes: report.keyChanges,
  maxRssKb: process.resourceUsage().maxRSS,
};
process.stdout.write(JSON.stringify(run));
