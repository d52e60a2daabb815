from tramontane_verifier.cli import main

raise SystemExit(main())
