/*
 * What to do where KVM cannot be had.
 */
#ifndef STRATA_DOCTOR_KVM_REMEDY_H
#define STRATA_DOCTOR_KVM_REMEDY_H

/* One line about why KVM is not usable (-errno of kvm_open) and what to do about it. */
const char *kvm_remedy(int error);

#endif
