/** One first start of a token and its root, in a process that a test kills. */
import { ROOT, tokenIn } from './token-fixture.ts';

const [folder = ''] = process.argv.slice(2);
await tokenIn(folder, true);
process.stdout.write(`${ROOT.generation}\n`);
