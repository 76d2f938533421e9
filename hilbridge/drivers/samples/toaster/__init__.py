r"""How do I write a bus driver, and drivers for what is plugged into it? A toaster bus, its function driver, and a filter.

After Microsoft's sample ``general/toaster``. `bus` finds toasters (an I/O control plugs them in, for want of real ones),
`function` toasts, `filter` looks at what passes. Each is a driver of its own, as they would be in Windows.
"""
