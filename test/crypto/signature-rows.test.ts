/** Every row of signatures; the slow sets are in `signature-rows.slow.test.ts`. */
import { describeSignatureRow, isSlow } from './signature-row.ts';
import { SIGNATURE_ROWS } from './software-halves.ts';

for (const suite of SIGNATURE_ROWS.filter((row) => !isSlow(row))) describeSignatureRow(suite);
