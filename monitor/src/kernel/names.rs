//! Hosts' names, looked up in /etc/hosts and DNS and nowhere else.

/// Keeps glibc from loading modules that /etc/nsswitch.conf names (`resolve`, `myhostname`): to a program that is linked
/// statically they are of another glibc than its own, which ends it at times. To be called before a name is looked up.
pub fn look_up_plainly() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            /// nss.h of glibc
            fn __nss_configure_lookup(
                database: *const libc::c_char,
                services: *const libc::c_char,
            ) -> libc::c_int;
        }
        // SAFETY: both are strings that end, and are copied. Where it refuses, things stay as they are.
        unsafe {
            __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
        }
    }
}
