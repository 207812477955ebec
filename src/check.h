/* Statements against the database. */
#ifndef TL_CHECK_H
#define TL_CHECK_H

int check_run(void);	/* exit status */

#endif
