/* The time of every step of a model, and what it amounts to: see profile.c. */
#ifndef SMELT_DRIVER_PROFILE_H
#define SMELT_DRIVER_PROFILE_H

#include "driver/driver.h"
#include "smelt.h"

typedef struct Profile Profile;

/* A profile of the session's compiled model, empty. */
Profile *profile_create(Session *s, const smelt_model *model);
void profile_destroy(Profile *p);
/* Makes hooks call the profile around every node, and around the parallel loops of their pool of
 * n_threads. */
void profile_hook(Profile *p, smelt_hooks *hooks, uint32_t n_threads);
/* A run is over: what its nodes took is kept. */
void profile_end_run(Profile *p);
/* Measures the machine's peaks for these threads, which the shares of them need. */
void profile_find_peaks(Profile *p);
/* The steps as a table on stdout, as the fields of a JSON object (, "steps": [...]), and as a page
 * of HTML around that JSON object. */
void profile_print(const Profile *p);
void profile_json(const Profile *p, StrBuf *out);
void profile_html(const char *json, StrBuf *out);

#endif
