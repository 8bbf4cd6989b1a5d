package idefics2_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	pb "github.com/idefics2-serving/idefics2-serving/clients/go/idefics2v1"
)

func TestEveryReasonOfTheProtoHasAConstant(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "reasons.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		if constant, ok := node.(*ast.ValueSpec); ok {
			name, err := strconv.Unquote(constant.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			written[name] = true
		}
		return true
	})
	for number, name := range pb.ErrorReason_name {
		if number != 0 && !written[name] {
			t.Errorf("%s is missing", name)
		}
		delete(written, name)
	}
	if len(written) != 0 {
		t.Errorf("no such reasons: %v", written)
	}
}
