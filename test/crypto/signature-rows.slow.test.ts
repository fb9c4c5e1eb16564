/** The small sets of SLH-DSA, whose signatures take up to some seconds. */
import { describeSignatureRow, isSlow } from './signature-row.ts';
import { SIGNATURE_ROWS } from './software-halves.ts';

for (const suite of SIGNATURE_ROWS.filter(isSlow)) describeSignatureRow(suite);
