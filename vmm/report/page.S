/* The style and the script of pages (page.h). */
	.section .rodata
	.globl page_css, page_css_end, page_js, page_js_end
page_css:
	.incbin "vmm/report/page.css"
page_css_end:
page_js:
	.incbin "vmm/report/page.js"
page_js_end:
	.byte 0
	.section .note.GNU-stack, "", @progbits
