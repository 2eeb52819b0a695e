/*
 * page.css and page.js as they were built in (page.S): what every page has in common.
 */
#ifndef STRATA_REPORT_PAGE_H
#define STRATA_REPORT_PAGE_H

extern const char page_css[], page_css_end[], page_js[], page_js_end[];

#endif
