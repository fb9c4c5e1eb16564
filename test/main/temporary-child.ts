/** Holds a temporary folder until it is told to end, and says where it is. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { withTemporaryFolder } from '../../src/main/temporary-folder.ts';

await withTemporaryFolder('test', async (folder) => {
  writeFileSync(join(folder, 'file'), 'x');
  process.send?.(folder);
  await new Promise((resolve) => process.once('message', resolve));
});
process.disconnect?.();
